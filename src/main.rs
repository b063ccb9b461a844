//! The `p2pdb` command.

fn main() -> std::process::ExitCode {
    p2pdb::cli::main()
}
