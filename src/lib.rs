//! p2pdb
