use super::*;
use crate::config::{EXAMPLE, KadMode, Period, Size, Tables};

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Loader::new().text(Path::new("config.toml"), text)?.load()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// The example with its settings, which start with `#` and no space, switched on.
fn uncommented() -> String {
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    EXAMPLE
        .lines()
        .map(|line| if setting(line) { &line[1..] } else { line })
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_example_lists_every_key_with_its_default() {
    let everything = uncommented();
    let listed: Table = everything.parse().unwrap();
    let defaults = to_table(&Config::default());
    assert_eq!(keys(&listed), keys(&defaults));
    assert_eq!(listed, defaults, "as written, so that what stands there is also the recommended spelling");
    assert_eq!(from_file(&everything).unwrap(), Config::default());
    assert_eq!(from_file(EXAMPLE).unwrap(), Config::default(), "and as it is");
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let file = "sync_interval = '1 min'\nlog = 'warn'\n[limits]\nmax_disk = '1 GiB'\nmax_per_peer = 7";
    let config = Loader::new()
        .flag("--max-disk", "limits.max_disk", "3 GiB")
        .environment(variables(&[("P2PDB_LIMITS__MAX_DISK", "2 GiB"), ("P2PDB_LOG", "debug")]))
        .text(Path::new("config.toml"), file)
        .unwrap()
        .load()
        .unwrap();
    assert_eq!(config.limits.max_disk, Size(3 << 30));
    assert_eq!(config.log, "debug");
    assert_eq!(config.sync_interval, Period(60));
    assert_eq!(config.limits.max_per_peer, 7);
    assert_eq!(config.limits.max_outgoing, Config::default().limits.max_outgoing);
}

#[test]
fn a_profile_moves_the_defaults_but_no_setting() {
    let config = Loader::new()
        .text(Path::new("config.toml"), "[limits]\nmax_outgoing = 5")
        .unwrap()
        .environment(variables(&[("P2PDB_PROFILE", "home")]))
        .load()
        .unwrap();
    let mut expected = Config::of(Profile::Home);
    expected.limits.max_outgoing = 5;
    assert_eq!(config, expected);
    assert_ne!(Config::of(Profile::Home).limits, Config::default().limits);
}

#[test]
fn variables_carry_every_type() {
    let a = p2pdb_protocol::id::TableId::from_bytes([1; 32]);
    let b = p2pdb_protocol::id::TableId::from_bytes([2; 32]);
    let tables = format!("{b}, {a},{b}");
    let config = Loader::new()
        .environment(variables(&[
            ("P2PDB_NAT__UPNP", "off"),
            ("P2PDB_RATES__PUT", "0"),
            ("P2PDB_TABLES", &tables),
            ("P2PDB_LISTEN", "/ip4/127.0.0.1/tcp/0/ws, /ip6/::1/udp/0/quic-v1"),
            ("P2PDB_LIMITS__HORIZON", "30 days"),
            ("P2PDB_KAD_MODE", "server"),
            // Not ours, or not keys.
            ("P2PDB_HOME", "/srv/p2pdb"),
            ("P2PDB_GATEWAY_URL", "http://127.0.0.1:4780"),
            ("P2PDB_GATEWAY_TOKEN", "app"),
            ("P2PDB_BIN", "target/debug/p2pdb"),
            ("P2PDB_TEST_SEED", "1"),
            ("PATH", "/bin"),
        ]))
        .load()
        .unwrap();
    assert!(!config.nat.upnp);
    assert_eq!(config.rates.put, 0);
    assert_eq!(config.tables, Tables::Only(vec![a, b]));
    assert!(config.tables.contains(&b));
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.limits.horizon, Some(Period(2_592_000)));
    assert_eq!(config.kad_mode, KadMode::Server);
    let none = Loader::new().environment(variables(&[("P2PDB_LISTEN", "")])).load().unwrap();
    assert_eq!(none.listen, []);
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_the_key_that_was_meant() {
    for (file, line, key, meant) in [
        ("log = 'info'\n[limits]\nmax_disc = '1 GiB'", 3, "limits.max_disc", Some("limits.max_disk")),
        ("max_disk = '1 GiB'", 1, "max_disk", Some("limits.max_disk")),
        ("\n\nlistens = []", 3, "listens", Some("listen")),
        ("[limit]\nhorizon = 'none'", 2, "limit.horizon", Some("limits.horizon")),
        ("[colours]\nbackground = 'blue'", 2, "colours.background", None),
        // A section is no value, and a value no section.
        ("limits = 3", 1, "limits", None),
        ("[colours]", 1, "colours", None),
        ("[log]\nlevel = 'info'", 2, "log.level", None),
    ] {
        let error = from_file(file).unwrap_err();
        let ConfigError::UnknownKey { origin, key: got, suggestion } = &error else {
            panic!("{file}: {error}")
        };
        assert_eq!(origin.to_string(), format!("config.toml:{line}"), "{file}");
        assert_eq!((got.as_str(), suggestion.as_deref()), (key, meant), "{file}");
    }
    assert_eq!(from_file("[limits]\n[nat]").unwrap(), Config::default(), "a section without settings");
    let error = Loader::new().environment(variables(&[("P2PDB_LIMITS_MAX_DISK", "1")])).load().unwrap_err();
    assert_eq!(error.to_string(), "P2PDB_LIMITS_MAX_DISK: unknown key `limits_max_disk`");
    assert_eq!(error.hint(), "did you mean `limits.max_disk`?");
}

#[test]
fn a_wrong_value_is_an_error_with_its_place_and_what_was_expected() {
    for (file, expected) in [
        ("[limits]\nmax_disk = 'lots'", "config.toml:2: `limits.max_disk`: expected a size such as"),
        ("sync_interval = 300", "config.toml:1: `sync_interval`: expected a period with its unit"),
        ("sync_interval = '0 s'", "config.toml:1: `sync_interval`: expected at least 1, got 0"),
        (
            "[nat]\nupnp = 'yes'",
            "config.toml:2: `nat.upnp`: invalid type: string \"yes\", expected a boolean",
        ),
        ("kad_mode = 'sever'", "config.toml:1: `kad_mode`: unknown variant `sever`, expected one of"),
        ("profile = 'nas'", "config.toml:1: `profile`: unknown variant `nas`, expected `server` or `home`"),
        ("[rates]\nput = -1", "config.toml:2: `rates.put`: invalid value: integer `-1`, expected u32"),
        ("tables = ['p2key1qqqq']", "config.toml:1: `tables`: expected \"all\" or a list of table ids"),
        (
            "listen = ['/ip4/0.0.0.0/udp/1']",
            "config.toml:1: `listen`: expected /ip4/.. or /ip6/.. followed by",
        ),
        ("listen = ['localhost:1']", "config.toml:1: `listen`: "),
        (
            "external_addresses = ['/ip4/0.0.0.0/tcp/1']",
            "config.toml:1: `external_addresses`: expected an address",
        ),
        (
            "[bootstrap]\npeers = ['/ip4/192.0.2.1/tcp/1']",
            "config.toml:2: `bootstrap.peers`: expected an address that ends",
        ),
        (
            "[limits]\nmax_disk = '1 GiB'\nmax_disk_per_table = '2 GiB'",
            "config.toml:3: `limits.max_disk_per_table`: expected at most limits.max_disk (1 GiB), got 2 GiB",
        ),
        ("[limits\n", "config.toml: expected TOML: TOML parse error at line 1"),
    ] {
        let error = from_file(file).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{file}: {error}");
        assert!(!error.hint().is_empty());
    }
    let error = Loader::new().flag("--kad-mode", "kad_mode", "fast").load().unwrap_err();
    assert!(error.to_string().starts_with("--kad-mode: `kad_mode`: unknown variant `fast`"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Loader::new().file(Path::new("/nonexistent/config.toml")).err().unwrap();
    assert_eq!(error.to_string(), "cannot read the configuration /nonexistent/config.toml");
}

#[test]
fn edit_distance() {
    for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0), ("abc", "", 3)] {
        assert_eq!(distance(a, b), expected, "{a} {b}");
    }
}
