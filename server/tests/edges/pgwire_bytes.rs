//! The PostgreSQL protocol byte by byte, for what drivers hide.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::node::Node;

/// A client that knows how messages are framed and nothing else.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects and returns the messages up to the first ReadyForQuery.
    fn connect(node: &Node) -> (Raw, Vec<(u8, Vec<u8>)>) {
        let stream = TcpStream::connect(node.pg).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut raw = Raw { stream };
        raw.stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
        let mut answer = [0];
        raw.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [b'N'], "encryption is declined");
        let mut startup = vec![0, 3, 0, 0];
        startup.extend_from_slice(b"user\0ann\0database\0meridian\0client_encoding\0'utf-8'\0some.thing\0x\0\0");
        raw.send_untyped(&startup);
        let greeting = raw.read_to_ready();
        (raw, greeting)
    }

    fn send_untyped(&mut self, body: &[u8]) {
        let length = (body.len() as u32 + 4).to_be_bytes();
        self.stream.write_all(&[&length, body].concat()).unwrap();
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let length = (body.len() as u32 + 4).to_be_bytes();
        self.stream.write_all(&[&[kind], &length[..], body].concat()).unwrap();
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        self.stream.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    fn read_to_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        while messages.last().is_none_or(|(kind, _)| *kind != b'Z') {
            messages.push(self.read());
        }
        messages
    }

    fn query(&mut self, sql: &str) -> String {
        self.send(b'Q', format!("{sql}\0").as_bytes());
        summary(&self.read_to_ready())
    }

    /// Parse, Bind and Execute of a statement without parameters.
    fn send_extended(&mut self, sql: &str) {
        self.send(b'P', format!("\0{sql}\0\0\0").as_bytes());
        self.send(b'B', b"\0\0\0\0\0\0\0\0");
        self.send(b'E', b"\0\0\0\0\0");
    }
}

/// The kinds of the messages, and the status after the last one.
fn summary(messages: &[(u8, Vec<u8>)]) -> String {
    let kinds: String = messages.iter().map(|(kind, _)| *kind as char).collect();
    let status = messages.last().map_or('?', |(_, body)| body[0] as char);
    format!("{kinds} {status}")
}

/// Runs a conversation, which blocks, beside the server.
async fn converse(talk: impl FnOnce(&Node) + Send + 'static) {
    let node = Node::start().await;
    tokio::task::spawn_blocking(move || talk(&node)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greeting_tells_what_drivers_look_for() {
    converse(|node| {
        let (_raw, greeting) = Raw::connect(node);
        let parameters: Vec<String> = greeting
            .iter()
            .filter(|(kind, _)| *kind == b'S')
            .map(|(_, body)| String::from_utf8(body.clone()).unwrap().trim_end_matches('\0').replace('\0', "="))
            .collect();
        for expected in
            ["server_version=15.0", "client_encoding=UTF8", "standard_conforming_strings=on", "TimeZone=UTC"]
        {
            assert!(parameters.iter().any(|p| p == expected), "{expected} is not among {parameters:?}");
        }
        assert!(greeting.iter().any(|(kind, body)| *kind == b'K' && body.len() == 8));
        assert_eq!(summary(&greeting[greeting.len() - 1..]), "Z I");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_follows_the_transaction() {
    converse(|node| {
        let (mut raw, _) = Raw::connect(node);
        assert_eq!(raw.query(""), "IZ I");
        assert_eq!(raw.query("SELECT 1 AS a, 'x' AS b"), "TDCZ I");
        assert_eq!(raw.query("BEGIN"), "CZ T");
        assert_eq!(raw.query("SELEC"), "EZ E");
        assert_eq!(raw.query("SELECT 1"), "EZ E");
        assert_eq!(raw.query("COMMIT"), "CZ I");
        assert_eq!(raw.query("COMMIT"), "NCZ I");
        assert_eq!(raw.query("SET application_name = 'other'"), "SCZ I");
        assert_eq!(raw.query("BEGIN; SELECT 1; COMMIT"), "CTDCCZ I");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_between_two_syncs_is_one_transaction() {
    converse(|node| {
        let (mut raw, _) = Raw::connect(node);
        assert_eq!(raw.query("CREATE TABLE t (id INT8 PRIMARY KEY)"), "CZ I");
        raw.send_extended("INSERT INTO t VALUES (1)");
        raw.send_extended("INSERT INTO t VALUES (1)");
        raw.send_extended("INSERT INTO t VALUES (2)");
        raw.send(b'S', b"");
        assert_eq!(summary(&raw.read_to_ready()), "12C12EZ I");
        raw.send_extended("INSERT INTO t VALUES (3)");
        raw.send_extended("INSERT INTO t VALUES (4)");
        raw.send(b'S', b"");
        assert_eq!(summary(&raw.read_to_ready()), "12C12CZ I");
        raw.send(b'Q', b"SELECT id FROM t\0");
        let ids: Vec<Vec<u8>> = raw.read_to_ready().into_iter().filter(|m| m.0 == b'D').map(|m| m.1).collect();
        assert_eq!(ids, [b"\0\x01\0\0\0\x013", b"\0\x01\0\0\0\x014"]);
        // BEGIN among them makes it an ordinary transaction block.
        raw.send_extended("INSERT INTO t VALUES (5)");
        raw.send_extended("BEGIN");
        raw.send(b'S', b"");
        assert_eq!(summary(&raw.read_to_ready()).chars().last(), Some('T'));
        assert_eq!(raw.query("ROLLBACK"), "CZ I");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_brings_answers_before_the_sync() {
    converse(|node| {
        let (mut raw, _) = Raw::connect(node);
        raw.send(b'P', b"s\0SELECT $1::INT8 + 1\0\0\0");
        raw.send(b'D', b"Ss\0");
        raw.send(b'H', b"");
        assert_eq!((raw.read().0, raw.read(), raw.read().0), (b'1', (b't', vec![0, 1, 0, 0, 0, 20]), b'T'));
        raw.send(b'B', b"\0s\0\0\0\0\x01\0\0\0\x0241\0\0");
        raw.send(b'E', b"\0\0\0\0\0");
        raw.send(b'C', b"Ss\0");
        raw.send(b'S', b"");
        assert_eq!(summary(&raw.read_to_ready()), "2DC3Z I");
        raw.send(b'B', b"\0s\0\0\0\0\x01\0\0\0\x0241\0\0");
        raw.send(b'S', b"");
        assert_eq!(summary(&raw.read_to_ready()), "EZ I");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_the_connection_in_words() {
    converse(|node| {
        let (mut raw, _) = Raw::connect(node);
        raw.send(b'?', b"");
        let (kind, body) = raw.read();
        assert_eq!(kind, b'E');
        assert!(String::from_utf8_lossy(&body).contains("FATAL"));
        let (mut raw, _) = Raw::connect(node);
        raw.stream.write_all(&[b'Q', 0x7f, 0xff, 0xff, 0xff]).unwrap();
        let (kind, body) = raw.read();
        assert_eq!(kind, b'E');
        assert!(String::from_utf8_lossy(&body).contains("limit"));
    })
    .await;
}
