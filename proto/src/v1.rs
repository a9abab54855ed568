//! The public gRPC API, version 1, generated from `proto/meridian/v1`, where it is documented.
//!
//! These types stay at the edges: the server's gRPC services turn them into its own words at once, and so does
//! the driver.

tonic::include_proto!("meridian.v1");

/// The encoded descriptors of all files, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/meridian.v1.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn the_descriptor_set_names_every_service() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let services: Vec<&str> = set.file.iter().flat_map(|f| &f.service).map(|s| s.name()).collect();
        assert_eq!(services, ["Sql", "KeyRange", "Admin", "Peer"]);
    }

    #[test]
    fn a_value_without_a_kind_is_null_and_takes_no_room() {
        assert_eq!(Value::default().encode_to_vec(), Vec::<u8>::new());
    }
}
