//! A node's store directory.
//!
//! ```text
//! DIR/LOCK        held while the node runs
//! DIR/identity    who the node is; written once
//! DIR/store-id    which store this is, drawn at random; also in log/STORE and data/STORE, to tell what belongs together
//! DIR/starts      how often the node has been started
//! DIR/members     the members, and the ranges that lead to all others, as they were known last
//! DIR/recovery    a recovery that was begun on this store, or has work left for the running cluster
//! DIR/clock       the offset of a clock that the processes of one host share
//! DIR/log/        the Raft log
//! DIR/data/       the engine
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use proto::{ClusterId, NodeDescriptor, NodeId, NodeRecord, RangeDescriptor, StoreId, codec};

use crate::io::small_file;
use crate::kv::aftermath::Aftermath;

/// What a node must remember to be itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    #[n(0)]
    pub cluster: ClusterId,
    #[n(1)]
    pub node: NodeId,
    /// All members, as they were when the cluster was initialised, or the node joined.
    #[n(2)]
    pub members: Vec<NodeDescriptor>,
    /// The cluster's first ranges, or those with the descriptors of all others.
    #[n(3)]
    pub ranges: Vec<RangeDescriptor>,
    /// Set once the engine holds the initial contents.
    #[n(4)]
    pub format: u32,
    /// Whether the cluster that the node joined keeps the clock of one host. None for a founding member, to which its fellows tell that.
    #[n(5)]
    pub same_host: Option<bool>,
}

/// What a node knows of its cluster, so that it finds it again even where all others have changed since it was founded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Acquaintances {
    #[n(0)]
    pub members: Vec<NodeRecord>,
    /// The ranges with the descriptors of all others.
    #[n(1)]
    pub ranges: Vec<RangeDescriptor>,
}

/// How far a recovery has come on a store.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recovery {
    /// Whether the plan is carried out here. As long as it is not, no node may start on the store.
    #[n(0)]
    pub applied: bool,
    /// What the running cluster has to do.
    #[n(1)]
    pub aftermath: Aftermath,
}

/// The format of everything in a store directory that this version reads and writes.
pub const FORMAT: u32 = 2;

const IDENTITY_MAGIC: &[u8] = b"meridian identity 1\n";
const MEMBERS_MAGIC: &[u8] = b"meridian members 1\n";
const RECOVERY_MAGIC: &[u8] = b"meridian recovery 1\n";
/// What `recover collect` writes.
pub const FINDINGS_MAGIC: &[u8] = b"meridian findings 2\n";

/// The name of the file that says, in a part of the store, to which store the part belongs.
const MARK: &str = "STORE";

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
        let Some(identity) = read_sealed::<Identity>(&path, IDENTITY_MAGIC)? else { return Ok(None) };
        if identity.format != FORMAT {
            let (format, age) = (identity.format, if identity.format > FORMAT { "a newer" } else { "an older" });
            return Err(format!(
                "{} was written by {age} version, in format {format}; this one reads and writes format {FORMAT}. Start the node with a version that \
                 reads format {format}",
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
        write_sealed(&self.identity_path(), IDENTITY_MAGIC, identity)
    }

    /// What was known last of the cluster.
    ///
    /// # Errors
    /// A sentence, when the file is unreadable or damaged.
    pub fn acquaintances(&self) -> Result<Option<Acquaintances>, String> {
        read_sealed(&self.path.join("members"), MEMBERS_MAGIC)
    }

    /// Writes down what is known of the cluster, durably.
    ///
    /// # Errors
    /// A sentence, when the disk fails.
    pub fn set_acquaintances(&self, known: &Acquaintances) -> Result<(), String> {
        write_sealed(&self.path.join("members"), MEMBERS_MAGIC, known)
    }

    fn recovery_path(&self) -> PathBuf {
        self.path.join("recovery")
    }

    /// The recovery that was begun here and has left something to do.
    ///
    /// # Errors
    /// A sentence, when the file is unreadable or damaged.
    pub fn recovery(&self) -> Result<Option<Recovery>, String> {
        read_sealed(&self.recovery_path(), RECOVERY_MAGIC)
    }

    /// Writes down how far a recovery has come, durably; nothing once all is done.
    ///
    /// # Errors
    /// A sentence, when the disk fails.
    pub fn set_recovery(&self, recovery: Option<&Recovery>) -> Result<(), String> {
        let path = self.recovery_path();
        match recovery {
            Some(recovery) => write_sealed(&path, RECOVERY_MAGIC, recovery),
            None => fs::remove_file(&path).map_err(|e| format!("{} cannot be removed: {e}", path.display())),
        }
    }

    /// Which store this is. Drawn when it is asked for the first time.
    ///
    /// # Errors
    /// A sentence, when the disk fails.
    pub fn store_id(&self) -> Result<StoreId, String> {
        let path = self.path.join("store-id");
        match small_file::read(&path)? {
            Some(bytes) => parse(&path, &bytes),
            None => {
                let id = StoreId(uuid::Uuid::new_v4().as_u128());
                small_file::write(&path, format!("{id}\n").as_bytes())?;
                Ok(id)
            }
        }
    }

    /// How often the node has been started on this store.
    ///
    /// # Errors
    /// A sentence, when the file is unreadable.
    pub fn starts(&self) -> Result<u64, String> {
        let path = self.path.join("starts");
        small_file::read(&path)?.map_or(Ok(0), |bytes| parse(&path, &bytes))
    }

    /// Counts a start, durably.
    ///
    /// # Errors
    /// A sentence, when the disk fails.
    pub fn set_starts(&self, starts: u64) -> Result<(), String> {
        small_file::write(&self.path.join("starts"), format!("{starts}\n").as_bytes())
    }

    /// Checks that log and data belong to this store. Before a store's first start they are only marked as its parts.
    ///
    /// # Errors
    /// A sentence, when one of them is not there any more or belongs to another store.
    pub fn check_parts(&self, node: NodeId) -> Result<(), String> {
        let (own, begun) = (self.store_id()?, self.starts()? > 0);
        for part in [self.log(), self.data()] {
            let path = part.join(MARK);
            let found = small_file::read(&path)?.map(|bytes| parse::<StoreId>(&path, &bytes)).transpose()?;
            let what = match found {
                Some(found) if found == own => continue,
                Some(_) => "belongs to another store",
                None if begun => "is empty, or belongs to another store",
                None => {
                    fs::create_dir_all(&part).map_err(|e| format!("{} cannot be made: {e}", part.display()))?;
                    small_file::write(&path, format!("{own}\n").as_bytes())?;
                    continue;
                }
            };
            return Err(format!(
                "{} says that this node is {node}, but {} {what}: put back what belongs there. If it is lost, {node} cannot come                  back: decommission it, and start this node with an empty store directory and --join",
                self.path.display(),
                part.display()
            ));
        }
        Ok(())
    }
}

fn parse<T: std::str::FromStr>(path: &Path, bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.trim_end().parse().ok());
    text.ok_or_else(|| format!("{} is damaged. Restore it, or replace this node's store", path.display()))
}

/// Reads a record under a checksum; `None` if there is none.
pub(super) fn read_sealed<T: for<'b> Decode<'b, ()>>(path: &Path, magic: &[u8]) -> Result<Option<T>, String> {
    let Some(bytes) = small_file::read(path)? else { return Ok(None) };
    let damaged = |why| format!("{} is damaged: {why}. Restore it, or replace this node's store", path.display());
    unseal(&bytes, magic).map(Some).map_err(damaged)
}

/// The record in what [`write_sealed`] has written.
///
/// # Errors
/// What is wrong with it.
pub(super) fn unseal<T: for<'b> Decode<'b, ()>>(bytes: &[u8], magic: &[u8]) -> Result<T, String> {
    let rest = bytes.strip_prefix(magic).ok_or("it does not begin as it should")?;
    let (sum, payload) = rest.split_at_checked(4).ok_or("it is too short")?;
    if crc32c::crc32c(payload).to_le_bytes() != sum {
        return Err("its checksum is wrong".into());
    }
    codec::decode("a record", payload).map_err(|e| e.to_string())
}

pub(super) fn write_sealed<T: Encode<()>>(path: &Path, magic: &[u8], record: &T) -> Result<(), String> {
    let payload = codec::encode(record);
    small_file::write(path, &[magic, &crc32c::crc32c(&payload).to_le_bytes(), &payload].concat())
}
