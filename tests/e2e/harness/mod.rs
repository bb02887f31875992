//! What the tests stand on.

mod duck;
mod files;
mod http;
mod tool;
mod up;
mod world;

pub use duck::query;
pub use http::{Answer, Http};
pub use tool::{Finished, command, finish, tributary};
pub use up::{Home, Up, read_table};
#[cfg(feature = "cluster")]
pub use world::Servers;
pub use world::World;
