//! What the tests stand on.

mod duck;
mod files;
mod http;
#[cfg(feature = "cluster")]
mod server;
mod small_disk;
mod tool;
mod up;
mod world;

pub use duck::query;
pub use http::{Answer, Http};
#[cfg(feature = "cluster")]
pub use server::Server;
pub use small_disk::{SmallDisk, is_root, may_mount};
pub use tool::{Finished, command, finish, tributary};
pub use up::{Home, Up, read_table};
#[cfg(feature = "cluster")]
pub use world::Servers;
pub use world::World;
