//! A node's store directory.
//!
//! ```text
//! DIR/LOCK        held while the node runs
//! DIR/identity    who the node is; written once
//! DIR/clock       the offset of a clock that the processes of one host share
//! DIR/log/        the Raft log
//! DIR/data/       the engine
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use proto::{ClusterId, NodeDescriptor, NodeId, RangeDescriptor, codec};

use crate::io::small_file;

/// What a node must remember to be itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    #[n(0)]
    pub cluster: ClusterId,
    #[n(1)]
    pub node: NodeId,
    /// All members, as they were when the cluster was initialised.
    #[n(2)]
    pub members: Vec<NodeDescriptor>,
    /// The cluster's first ranges.
    #[n(3)]
    pub ranges: Vec<RangeDescriptor>,
    /// Set once the engine holds the initial contents.
    #[n(4)]
    pub format: u32,
}

/// The format of everything in a store directory that this version reads and writes.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8] = b"meridian identity 1\n";

/// A store directory, locked.
pub struct Folder {
    path: PathBuf,
    /// Released when the process ends, however it ends.
    _lock: File,
}

impl Folder {
    /// Takes a directory, creating it if need be.
    ///
    /// # Errors
    /// A sentence, when it cannot be used or another process uses it.
    pub fn open(path: &Path) -> Result<Folder, String> {
        let fail = |e: std::io::Error| format!("the store directory {} cannot be used: {e}", path.display());
        fs::create_dir_all(path).map_err(fail)?;
        let lock = File::create(path.join("LOCK")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.into(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(format!("the store directory {} is in use by another process", path.display()))
            }
            Err(fs::TryLockError::Error(e)) => Err(fail(e)),
        }
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub fn clock(&self) -> PathBuf {
        self.path.join("clock")
    }

    fn identity_path(&self) -> PathBuf {
        self.path.join("identity")
    }

    /// Who the node is; `None` if it has never been told.
    ///
    /// # Errors
    /// A sentence, when the file is unreadable or damaged.
    pub fn identity(&self) -> Result<Option<Identity>, String> {
        let path = self.identity_path();
        let Some(bytes) = small_file::read(&path)? else { return Ok(None) };
        let damaged =
            |why: &str| format!("{} is damaged: {why}. Restore it, or replace this node's store", path.display());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin as it should"))?;
        let (sum, payload) = rest.split_at_checked(4).ok_or_else(|| damaged("it is too short"))?;
        if crc32c::crc32c(payload).to_le_bytes() != sum {
            return Err(damaged("its checksum is wrong"));
        }
        let identity: Identity = codec::decode("an identity", payload).map_err(|e| damaged(&e.to_string()))?;
        if identity.format > FORMAT {
            let format = identity.format;
            return Err(format!(
                "{} was written by a newer version (format {format}; this one reads up to {FORMAT})",
                path.display()
            ));
        }
        Ok(Some(identity))
    }

    /// Writes down who the node is, durably.
    ///
    /// # Errors
    /// A sentence, when the disk fails.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), String> {
        let payload = codec::encode(identity);
        let contents = [MAGIC, &crc32c::crc32c(&payload).to_le_bytes(), &payload].concat();
        small_file::write(&self.identity_path(), &contents)
    }
}
