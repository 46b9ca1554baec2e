//! The node agent.

fn main() {
    println!("meta-cnid {}", env!("CARGO_PKG_VERSION"));
}
