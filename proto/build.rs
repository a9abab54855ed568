//! Generates the public API from `proto/meridian/v1/*.proto`, without protoc: protox compiles the files, and
//! tonic-prost-build turns the result into Rust. The descriptors themselves go into the library too, for
//! gRPC reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const INCLUDE: &str = "proto";
const FILES: [&str; 5] = [
    "meridian/v1/value.proto",
    "meridian/v1/sql.proto",
    "meridian/v1/kv.proto",
    "meridian/v1/admin.proto",
    "meridian/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={INCLUDE}");
    let descriptors = protox::compile(FILES, [INCLUDE])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("meridian.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().btree_map(".").bytes(".meridian.v1.PeerFrame").compile_fds(descriptors)?;
    Ok(())
}
