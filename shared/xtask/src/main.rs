//! Build, test and run the mesh from a checkout.
fn main() {}
