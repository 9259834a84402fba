//! Asks the linker for what makes the process small, as far as it knows it.
//!
//! Tables of relocations in their packed form: the plain one is read as a whole at the start, and
//! stays resident. And the functions that run (`scripts/order.txt`, see `scripts/order`) next to each
//! other: the kernel maps sixteen pages around each that runs.

use std::{
    env,
    error::Error,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

const ORDER: &str = "scripts/order.txt";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ORDER}");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") != "linux" || target("ENV") != "gnu" {
        return Ok(());
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    let order = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(ORDER);
    let arguments = [
        format!("-Wl,--symbol-ordering-file={}", order.display()),
        "-Wl,--no-warn-symbol-ordering".to_owned(),
    ];
    if env::var("PROFILE")? == "release" && order.exists() && links(&arguments)? {
        for argument in arguments {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
    Ok(())
}

/// Whether the linker that will be used takes these arguments: LLVM's does, GNU's does not.
fn links(arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let out = Path::new(&env::var("OUT_DIR")?).join("probe");
    let mut compiler = Command::new(env::var("RUSTC")?);
    compiler.args(["--crate-name", "probe", "--target", &env::var("TARGET")?, "-", "-o"]).arg(out);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    compiler.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    compiler.args(arguments.iter().map(|argument| format!("-Clink-arg={argument}")));
    let quiet = compiler.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"fn main() {}")?;
    }
    Ok(child.wait()?.success())
}
