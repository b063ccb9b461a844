//! What a node takes of its machine, as the kernel sees it.

use std::{fs, path::PathBuf};

use crate::cli_nodes::Node;

#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// The most since [`reset_peak`], in bytes.
    pub(super) memory: u64,
    pub(super) descriptors: usize,
}

fn of_process(node: &Node, file: &str) -> PathBuf {
    format!("/proc/{}/{file}", node.id()).into()
}

pub(super) fn cost(node: &Node) -> Cost {
    let status = fs::read_to_string(of_process(node, "status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    Cost {
        memory: line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10,
        descriptors: fs::read_dir(of_process(node, "fd")).unwrap().count(),
    }
}

/// Else the highest peak of all would hide what later attacks take.
pub(super) fn reset_peak(node: &Node) {
    let file = of_process(node, "clear_refs");
    fs::write(&file, "5").unwrap_or_else(|error| {
        panic!("the peak of the node's memory cannot be reset, {}: {error}", file.display())
    });
}
