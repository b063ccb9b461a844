//! The parameters that all nodes of a network share, and the network file (SPEC 2).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    codec::strict::Writer,
    id::NetworkId,
    limits::{MAX_BUCKET_BITS, MAX_ENTRY_BYTES, MAX_WORK_PUZZLES},
};

/// The parameters of a network (SPEC 2.1). Nodes whose parameters differ cannot talk to each other.
///
/// Everything that takes a network expects one that passes [`Network::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What people call it: 1-64 of `a-z 0-9 -`.
    pub name: String,
    /// Leading bits of an entry id that name its bucket.
    pub bucket_bits: u8,
    /// Hashes that an entry of up to `work_base_bytes` costs.
    pub work_price: u64,
    /// Priced bytes that `work_price` pays for; larger entries cost in proportion.
    pub work_base_bytes: u64,
    /// Puzzles that the work of an entry consists of.
    pub work_puzzles: u64,
    /// Largest encoded entry, in bytes.
    pub max_entry_bytes: u64,
    /// Seconds that an entry may be ahead of a node's clock.
    pub max_clock_ahead: u64,
    /// Seconds of one epoch, the unit of retention.
    pub epoch_seconds: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            name: "p2pdb-main".to_owned(),
            bucket_bits: 12,
            work_price: 1 << 29,
            work_base_bytes: 2048,
            work_puzzles: 64,
            max_entry_bytes: 262_144,
            max_clock_ahead: 600,
            epoch_seconds: 604_800,
        }
    }
}

impl Network {
    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// The first parameter that is out of range (SPEC 2.1).
    pub fn check(&self) -> Result<(), NetworkError> {
        let name_is_valid = matches!(self.name.len(), 1..=64)
            && self.name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !name_is_valid {
            return Err(NetworkError::Name { got: self.name.clone() });
        }
        for (key, got, min, max) in [
            ("bucket_bits", u64::from(self.bucket_bits), 0, u64::from(MAX_BUCKET_BITS)),
            ("work_price", self.work_price, 1, 1 << 48),
            ("work_base_bytes", self.work_base_bytes, 1, 1 << 20),
            ("work_puzzles", self.work_puzzles, 1, MAX_WORK_PUZZLES),
            ("max_entry_bytes", self.max_entry_bytes, 4096, MAX_ENTRY_BYTES as u64),
            ("max_clock_ahead", self.max_clock_ahead, 1, 86_400),
            ("epoch_seconds", self.epoch_seconds, 60, 31_536_000),
        ] {
            if !(min..=max).contains(&got) {
                return Err(NetworkError::OutOfRange { key, got, min, max });
            }
        }
        Ok(())
    }

    /// The id of the network: a hash of all parameters (SPEC 2.2).
    #[must_use]
    pub fn id(&self) -> NetworkId {
        let encoded = Writer::new()
            .array(9)
            .text("p2pdb network v1")
            .text(&self.name)
            .uint(u64::from(self.bucket_bits))
            .uint(self.work_price)
            .uint(self.work_base_bytes)
            .uint(self.work_puzzles)
            .uint(self.max_entry_bytes)
            .uint(self.max_clock_ahead)
            .uint(self.epoch_seconds)
            .take();
        NetworkId::from_bytes(Sha256::digest(encoded).into())
    }

    /// `NET`, the 16 hex characters that stand in every protocol name of the network (SPEC 2.3).
    #[must_use]
    pub fn label(&self) -> String {
        self.id().as_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The epoch of an entry that was created at this time (SPEC 2.5).
    #[must_use]
    pub fn epoch(&self, created: u64) -> u64 {
        created / self.epoch_seconds.max(1)
    }

    /// `time` rounded up to the begin of an epoch, in unix seconds (SPEC 8.6).
    #[must_use]
    pub fn epoch_start_at_or_after(&self, time: u64) -> u64 {
        let epoch_seconds = self.epoch_seconds.max(1);
        time.div_ceil(epoch_seconds).saturating_mul(epoch_seconds)
    }
}

/// Why a network or a network file cannot be used. Written for the person who wrote the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The name is empty, too long, or has other characters.
    #[error("`name` is {got:?}, expected 1 to 64 of the characters a-z, 0-9 and -: choose another name")]
    Name {
        /// The name found.
        got: String,
    },
    /// A parameter is out of its range.
    #[error(
        "`{key}` is {got}, expected {min} to {max}: correct it; all nodes of a network need the same value"
    )]
    OutOfRange {
        /// The parameter.
        key: &'static str,
        /// Its value.
        got: u64,
        /// The least value permitted.
        min: u64,
        /// The greatest value permitted.
        max: u64,
    },
    /// A bootstrap address that cannot be a multiaddr.
    #[error(
        "`bootstrap` holds {got:?}, expected a multiaddr like /dns4/node.example/tcp/4001/p2p/12D3KooW...: \
         correct or remove it"
    )]
    Bootstrap {
        /// The address found.
        got: String,
    },
    /// Not TOML, or a key is missing, unknown or of another type.
    #[error("not a network file: {reason}\na network file has all of: {KEYS}")]
    File {
        /// What the TOML parser found, with line and column.
        reason: String,
    },
}

const KEYS: &str = "name, bucket_bits, work_price, work_base_bytes, work_puzzles, max_entry_bytes, \
                    max_clock_ahead, epoch_seconds, bootstrap";

/// A network and where to find its nodes: the file that makes a node or client join it (SPEC 2.4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct NetworkFile {
    /// The parameters.
    pub network: Network,
    /// Multiaddrs of nodes to begin with; not part of the network's id.
    pub bootstrap: Vec<String>,
}

impl NetworkFile {
    /// Reads a network file.
    ///
    /// # Errors
    /// What is wrong with it: a message for people.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let flat: Flat =
            toml::from_str(text).map_err(|error| NetworkError::File { reason: error.to_string() })?;
        flat.try_into()
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Strings, small integers and a list of strings always have a TOML form.
        toml::to_string(self).unwrap_or_default()
    }
}

/// The network file as it is written: serde's `flatten` would lose the refusal of unknown keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    name: String,
    bucket_bits: u8,
    work_price: u64,
    work_base_bytes: u64,
    work_puzzles: u64,
    max_entry_bytes: u64,
    max_clock_ahead: u64,
    epoch_seconds: u64,
    bootstrap: Vec<String>,
}

impl TryFrom<Flat> for NetworkFile {
    type Error = NetworkError;

    fn try_from(flat: Flat) -> Result<Self, NetworkError> {
        let Flat { name, bucket_bits, work_price, work_base_bytes, work_puzzles, .. } = flat;
        let Flat { max_entry_bytes, max_clock_ahead, epoch_seconds, bootstrap, .. } = flat;
        let network = Network {
            name,
            bucket_bits,
            work_price,
            work_base_bytes,
            work_puzzles,
            max_entry_bytes,
            max_clock_ahead,
            epoch_seconds,
        };
        network.check()?;
        match bootstrap.iter().find(|address| !address.starts_with('/')) {
            Some(got) => Err(NetworkError::Bootstrap { got: got.clone() }),
            None => Ok(Self { network, bootstrap }),
        }
    }
}

impl From<NetworkFile> for Flat {
    fn from(NetworkFile { network, bootstrap }: NetworkFile) -> Self {
        Self {
            name: network.name,
            bucket_bits: network.bucket_bits,
            work_price: network.work_price,
            work_base_bytes: network.work_base_bytes,
            work_puzzles: network.work_puzzles,
            max_entry_bytes: network.max_entry_bytes,
            max_clock_ahead: network.max_clock_ahead,
            epoch_seconds: network.epoch_seconds,
            bootstrap,
        }
    }
}

#[cfg(test)]
mod tests;
