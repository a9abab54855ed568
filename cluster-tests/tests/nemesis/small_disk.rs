//! A small filesystem that can be filled: in memory, mounted in a mount namespace of its own, which goes away with the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How large it is, in MiB.
const SIZE: u64 = 256;

/// See the module.
pub struct SmallDisk {
    /// Holds the namespace: it ends when its input does.
    holder: Child,
    folder: PathBuf,
    privileged: bool,
}

impl SmallDisk {
    /// Mounts one over a folder.
    ///
    /// # Errors
    /// In words, where neither the privilege nor unprivileged namespaces allow it.
    pub fn mount(folder: &Path) -> Result<SmallDisk, String> {
        fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        SmallDisk::try_mount(folder, true).or_else(|_| SmallDisk::try_mount(folder, false))
    }

    fn try_mount(folder: &Path, privileged: bool) -> Result<SmallDisk, String> {
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount");
        if !privileged {
            unshare.args(["--user", "--map-root-user"]);
        }
        let script = format!("mount -t tmpfs -o size={SIZE}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = unshare
            .args(["sh", "-c", &script])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let mut line = String::new();
        let output = holder.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line).map_err(|e| e.to_string())?;
        if line.trim() == "mounted" {
            return Ok(SmallDisk { holder, folder: folder.to_path_buf(), privileged });
        }
        let _ = holder.wait();
        Err("no filesystem can be mounted in a namespace here".into())
    }

    /// A command that runs a program where the filesystem is to be seen.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        if !self.privileged {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    fn filler(&self) -> PathBuf {
        let inside = self.folder.strip_prefix("/").unwrap_or(&self.folder);
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside).join("filler")
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("the filesystem is mounted");
        let block = vec![0x55; 64 << 10];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&[0x55]).is_ok() {}
    }

    pub fn empty(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
