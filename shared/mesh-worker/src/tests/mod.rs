//! Tests of the loop as a whole, against a world in memory with a time of its own.

mod crash;
mod flow;
mod forks;
mod hands;
mod offline;
mod prompt;
mod random;
mod replay;
mod runtimes;
mod time;
mod tools;
mod waits;
mod world;
