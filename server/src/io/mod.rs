//! The only part of the server that touches the clock, dice, disk, sockets and threads.
//!
//! [`clock`], [`env`], [`engine`] and [`log`] implement the seams for production; [`event_loop`] drives a store;
//! [`transport`] carries messages between nodes. The simulator replaces all of it.

pub mod clock;
pub mod kernel_clock;
pub mod small_file;
pub mod env;
pub mod engine;
pub mod log;
pub mod event_loop;
pub mod transport;
pub mod peer;
