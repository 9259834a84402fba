//! What people type: one file a verb.
mod serve;
/// Runs.
pub fn run() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let path = args
        .iter()
        .position(|a| a == "--config")
        .and_then(|i| args.get(i + 1))
        .cloned()
        .unwrap_or_default();
    serve::run(std::path::Path::new(&path))
}
