//! sconce with one filter more: `cost_center`.

mod cost_center;

use sconce_filters::FilterRegistry;

fn main() -> std::process::ExitCode {
    sconce::cli::run(&FilterRegistry::built_in().with(cost_center::Factory))
}
