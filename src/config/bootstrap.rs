//! Bootstrap lists: where a node or client finds its first peers (SPEC 11.1).

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Longest bootstrap list, in addresses; a list is for the first contact, not a directory.
pub const MAX_BOOTSTRAP_ADDRESSES: usize = 1024;

/// Why an address cannot be used for the first contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not a multiaddr.
    #[error("expected a multiaddr such as /ip4/192.0.2.1/tcp/4711/p2p/12D3KooW..., got {got:?}: {reason}")]
    Malformed {
        /// The text that was found.
        got: String,
        /// What the multiaddr parser says of it.
        reason: String,
    },
    /// The peer that should answer is not named, so anyone at the address could.
    #[error("expected an address that ends in /p2p/PEERID or is a /dnsaddr, got {got:?}")]
    NoPeer {
        /// The address that was found.
        got: String,
    },
}

/// Why a bootstrap list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// A line that is neither blank, a comment nor an address.
    #[error("line {line}: {source}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        source: AddressError,
    },
    /// More than [`MAX_BOOTSTRAP_ADDRESSES`] addresses.
    #[error("expected at most {MAX_BOOTSTRAP_ADDRESSES} addresses, line {line} is one more")]
    TooMany {
        /// The number of the first line too many, from 1.
        line: usize,
    },
}

/// Reads one address of a bootstrap list: it must end in `/p2p/PEERID` or be a `/dnsaddr` (SPEC 11.1).
///
/// # Errors
///
/// [`AddressError`] with the text found.
pub fn parse_address(text: &str) -> Result<Multiaddr, AddressError> {
    let malformed = |reason: String| AddressError::Malformed { got: text.to_owned(), reason };
    // The parser takes a name with blanks in it; on a line of a list that is two things run together.
    if text.contains(char::is_whitespace) {
        return Err(malformed("white space inside".to_owned()));
    }
    let address: Multiaddr = text.parse().map_err(|e: libp2p::multiaddr::Error| malformed(e.to_string()))?;
    check_address(&address)?;
    Ok(address)
}

/// Checks that an address ends in `/p2p/PEERID` or is a `/dnsaddr` (SPEC 11.1).
///
/// # Errors
///
/// [`AddressError::NoPeer`].
pub fn check_address(address: &Multiaddr) -> Result<(), AddressError> {
    let is_dnsaddr = matches!(address.iter().next(), Some(Protocol::Dnsaddr(_)));
    let names_peer = matches!(address.iter().last(), Some(Protocol::P2p(_))) && address.iter().count() > 1;
    if is_dnsaddr || names_peer { Ok(()) } else { Err(AddressError::NoPeer { got: address.to_string() }) }
}

/// Reads a bootstrap list: one address a line, blank lines and what follows a `#` ignored (SPEC 11.1).
///
/// The order of the list is kept, of equal addresses the first.
///
/// # Errors
///
/// [`BootstrapError`] with the number of the first line that cannot be used.
pub fn parse_list(text: &str) -> Result<Vec<Multiaddr>, BootstrapError> {
    let mut addresses = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let content = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if content.is_empty() {
            continue;
        }
        let address =
            parse_address(content).map_err(|source| BootstrapError::Line { line: number, source })?;
        if addresses.contains(&address) {
            continue;
        }
        if addresses.len() == MAX_BOOTSTRAP_ADDRESSES {
            return Err(BootstrapError::TooMany { line: number });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";

    #[test]
    fn comments_blank_lines_and_repetitions_are_ignored() {
        let text = format!(
            "# keepers\r\n\n/ip4/192.0.2.1/tcp/4711/p2p/{PEER} # Ada\r\n\
             /dnsaddr/bootstrap.example.org\n/ip4/192.0.2.1/tcp/4711/p2p/{PEER}\n#/nonsense"
        );
        let list = parse_list(&text).unwrap();
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("/ip4/192.0.2.1/tcp/4711/p2p/{PEER}"), "/dnsaddr/bootstrap.example.org".to_owned()]
        );
        assert_eq!(parse_list("\n# nobody yet\n"), Ok(vec![]));
    }

    #[test]
    fn an_address_without_a_peer_is_refused_with_its_line() {
        for bad in ["/ip4/192.0.2.1/tcp/4711", &format!("/p2p/{PEER}")] {
            let Err(BootstrapError::Line { line: 2, source: AddressError::NoPeer { got } }) =
                parse_list(&format!("# one\n{bad}"))
            else {
                panic!("{bad} was taken");
            };
            assert_eq!(got, bad);
        }
        for bad in ["192.0.2.1:4711", "/ip4/192.0.2.1/tcp/4711/p2p/12D3KooW", "/dnsaddr/a.example b"] {
            let error = parse_list(bad).unwrap_err();
            assert!(
                matches!(&error, BootstrapError::Line { line: 1, source: AddressError::Malformed { .. } }),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let text: String =
            (0..=MAX_BOOTSTRAP_ADDRESSES).map(|i| format!("/dnsaddr/n{i}.example.org\n")).collect();
        assert_eq!(parse_list(&text), Err(BootstrapError::TooMany { line: MAX_BOOTSTRAP_ADDRESSES + 1 }));
    }
}
