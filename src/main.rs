//! The `sconce` binary: decides nothing.

fn main() -> std::process::ExitCode {
    sconce::cli::run()
}
