//! Tests of the loop as a whole, against a world in memory with a time of its own.

mod callers;
mod consolidation;
mod crash;
mod flow;
mod forks;
mod hands;
mod memories;
mod offline;
mod prompt;
mod random;
mod replay;
mod runtimes;
mod time;
mod tools;
mod waits;
mod world;
