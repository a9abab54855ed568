//! Temporary directories.

use std::path::{Path, PathBuf};

/// A temporary directory that goes away with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// When there can be none.
    pub fn new(name: &str) -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("meridian-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the operating system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
