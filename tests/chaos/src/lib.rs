//! Chaos: real processes and servers under seeded kills, freezes, cuts and failpoints, and the checker of what is left.
//! `cargo xtask chaos` starts it; a short set of seeds is among the tests.

pub mod checker;
pub mod evidence;

mod draw;
mod fakes;
