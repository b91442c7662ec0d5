//! Tells the program the versions that it is made of.

use std::process::Command;

fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap();
    let (_, rest) = lock
        .split_once("name = \"async-nats\"\nversion = \"")
        .unwrap();
    let (client, _) = rest.split_once('"').unwrap();
    let compiler = Command::new(std::env::var("RUSTC").unwrap())
        .arg("--version")
        .output()
        .unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    let compiler: Vec<&str> = compiler.split_whitespace().take(2).collect();
    println!(
        "cargo:rustc-env=INTEROP_VERSIONS=async-nats {client}, Rust {}",
        compiler[1]
    );
    println!("cargo:rerun-if-changed=Cargo.lock");
}
