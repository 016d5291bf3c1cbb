//! Tests of the loop as a whole, against a world in memory with a time of its own.

mod crash;
mod flow;
mod prompt;
mod replay;
mod time;
mod world;
