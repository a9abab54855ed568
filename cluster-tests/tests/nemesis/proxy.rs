//! Links between nodes that can be cut, in one direction or both.
//!
//! Every node is known to the others by the address of a proxy. Which node a connection comes from shows in the kernel's table of
//! sockets, so each pair of nodes is cut by itself, without any privilege. A cut link loses nothing that was sent and delivers nothing:
//! bytes wait, as they would be sent again by TCP, until the link is whole or a side gives the connection up.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Which node runs as which process.
pub type Processes = Arc<Mutex<Vec<Option<u32>>>>;

/// The links of all nodes.
#[derive(Clone)]
pub struct Links {
    cut: watch::Sender<BTreeSet<(usize, usize)>>,
    processes: Processes,
}

impl Links {
    pub fn new(processes: Processes) -> Links {
        Links { cut: watch::Sender::default(), processes }
    }

    /// Lets nothing pass from one node to another any more, or everything again.
    pub fn set_cut(&self, from: usize, to: usize, cut: bool) {
        self.cut.send_modify(|links| {
            if cut {
                links.insert((from, to));
            } else {
                links.remove(&(from, to));
            }
        });
    }

    pub fn heal(&self) {
        self.cut.send_modify(BTreeSet::clear);
    }

    /// Serves as the address by which the others know a node. Ends with the runtime.
    pub async fn serve(&self, listener: TcpListener, node: usize, address: String) {
        while let Ok((incoming, from)) = listener.accept().await {
            let (links, address) = (self.clone(), address.clone());
            tokio::spawn(async move {
                let source = links.source(from.port());
                // A side that goes away ends the connection; so does a node that is down.
                let _ = links.carry(incoming, source, node, &address).await;
            });
        }
    }

    /// The node whose process has a socket with this local port.
    fn source(&self, port: u16) -> Option<usize> {
        let inode = inode_of(port)?;
        let processes = self.processes.lock().expect("nobody panics").clone();
        let has = |pid: &u32| {
            let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
            let wanted = format!("socket:[{inode}]");
            files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
        };
        processes.iter().position(|pid| pid.as_ref().is_some_and(has))
    }

    async fn carry(&self, incoming: TcpStream, source: Option<usize>, node: usize, address: &str) -> io::Result<()> {
        let there = source.map(|source| (source, node));
        let back = source.map(|source| (node, source));
        self.whole(there).await;
        let outgoing = TcpStream::connect(address).await?;
        incoming.set_nodelay(true)?;
        outgoing.set_nodelay(true)?;
        let ((from_source, to_source), (from_node, to_node)) = (incoming.into_split(), outgoing.into_split());
        tokio::select! {
            done = self.pump(from_source, to_node, there) => done,
            done = self.pump(from_node, to_source, back) => done,
        }
    }

    async fn pump(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        link: Option<(usize, usize)>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.whole(link).await;
            to.write_all(&buffer[..read]).await?;
        }
    }

    /// Waits until a link is whole.
    async fn whole(&self, link: Option<(usize, usize)>) {
        let Some(link) = link else { return };
        let mut cut = self.cut.subscribe();
        // The sender lives as long as the links.
        let _ = cut.wait_for(|links| !links.contains(&link)).await;
    }
}

/// The kernel's number of the socket on this host that has a local port on the loopback interface.
fn inode_of(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!("0100007F:{port:04X}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let inode = fields.get(9)?.parse().ok()?;
        (fields.get(1) == Some(&local.as_str()) && inode != 0).then_some(inode)
    })
}
