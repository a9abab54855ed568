//! Small files that are replaced as a whole, durably.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Reads a file; `None` if there is none.
///
/// # Errors
/// A sentence.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
    }
}

/// Puts new contents in a file's place. A crash leaves the old or the new ones.
///
/// # Errors
/// A sentence, when the disk fails.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), String> {
    let write = || -> std::io::Result<()> {
        let next = path.with_extension("next");
        let mut file = File::create(&next)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| format!("{} cannot be written: {e}", path.display()))
}
