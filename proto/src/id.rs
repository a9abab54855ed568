//! Identifiers, each a type of its own.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use uuid::Uuid;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

numeric_id!(
    /// A process with its store. Assigned when it becomes a member, never reused; 0 is nobody.
    NodeId, "n"
);
numeric_id!(
    /// A range: a contiguous span of keys replicated by one Raft group. Never reused.
    RangeId, "r"
);
numeric_id!(
    /// One replica of a range over its whole life; a replica that comes back has a new id.
    ReplicaId, "p"
);
numeric_id!(
    /// The version of a range's descriptor. Each change of bounds or membership raises it.
    Epoch, "e"
);

impl Epoch {
    /// Of a range that is only known to exist.
    pub const UNKNOWN: Epoch = Epoch(0);
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", Uuid::from_u128(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Ok($name(Uuid::parse_str(s)?.as_u128()))
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0.to_be_bytes())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes: [u8; 16] = d
                    .bytes()?
                    .try_into()
                    .map_err(|_| minicbor::decode::Error::message("an id has 16 bytes"))?;
                Ok($name(u128::from_be_bytes(bytes)))
            }
        }
    };
}

uuid_id!(
    /// A transaction. Random; a re-run after an abort has a new one.
    TxnId
);
uuid_id!(
    /// A cluster. Random, drawn when the cluster is initialised.
    ClusterId
);
uuid_id!(
    /// A store directory. Random, drawn when it is first used; a copy of the directory has the same one.
    StoreId
);
