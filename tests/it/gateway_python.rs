//! The Python client's own tests, against the daemon that is built here.

use std::{path::Path, process::Command};

#[test]
fn the_python_client_passes_its_tests() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/webapps/python");
    let output = Command::new("python3")
        .args(["-W", "error", "-m", "unittest", "discover", "-s", "tests", "-t", "."])
        .current_dir(&directory)
        .env("P2PDB_BIN", env!("CARGO_BIN_EXE_p2pdb"))
        .env("PYTHONPATH", directory.join("src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Ran 13 tests"), "{said}");
}
