//! The `sconce` binary: decides nothing.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    sconce::cli::run(&sconce_filters::FilterRegistry::built_in())
}
