//! Rebuilds the crate when a migration is added: `migrate!` embeds the folder as it is at compile time.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
