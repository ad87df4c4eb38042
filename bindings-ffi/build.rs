//! What the shared library says about itself.

fn main() {
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arguments: &[&str] = match os.as_str() {
        // Programs look for the name that `cargo xtask` copies it to. It is never unloaded, since
        // its threads run in it.
        "linux" => &["-Wl,-soname,libpeerage.so", "-Wl,-z,nodelete"],
        "macos" => &["-Wl,-install_name,@rpath/libpeerage.dylib"],
        _ => &[],
    };
    for argument in arguments {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
