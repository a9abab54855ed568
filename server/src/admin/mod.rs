//! Work that a node does beside serving requests: what its store asks for, and the placement driver.
//!
//! * [`office`]: carries out what a store asks of its node: descriptors are published, ranges split, reports sent.
//! * [`driver`]: where the meta range is led, places replicas and leaders, a step of a range at a time.
//! * [`cuts`]: splits ranges where wishes begin and end.
//! * [`mender`]: where the meta range is led, has ranges published that it lacks.
//! * [`picture`]: what the driver sees.

pub mod cuts;
pub mod driver;
pub mod mender;
pub mod office;
pub mod picture;

pub use driver::Driver;
pub use office::Office;
