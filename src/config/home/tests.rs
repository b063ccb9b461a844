use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::create(&directory.path().join("deep/home")).unwrap();
    (directory, home)
}

#[test]
fn a_new_home_is_private_and_opens_again() {
    let (_directory, home) = home();
    for path in [home.root(), &home.keys(), &home.tables(), &home.store()] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    assert_eq!(Home::create(home.root()).unwrap(), home);
    assert_eq!(Home::open(home.root()).unwrap(), home);
}

#[test]
fn a_missing_home_says_how_to_make_one() {
    let directory = tempfile::tempdir().unwrap();
    let error = Home::open(&directory.path().join("none")).unwrap_err();
    assert!(matches!(error, HomeError::Missing { .. }));
    assert!(error.hint().contains("p2pdb init"));
    // A file is no home either.
    fs::write(directory.path().join("file"), "").unwrap();
    assert!(matches!(Home::open(&directory.path().join("file")), Err(HomeError::Missing { .. })));
}

#[test]
fn an_open_home_is_refused_with_the_command_to_run() {
    let (_directory, home) = home();
    fs::set_permissions(home.root(), fs::Permissions::from_mode(0o750)).unwrap();
    let error = Home::open(home.root()).unwrap_err();
    assert!(error.to_string().ends_with("expected mode 0700, got 0750"), "{error}");
    assert!(error.hint().starts_with(&format!("run `chmod 700 '{}'", home.root().display())));
    assert!(matches!(Home::create(home.root()), Err(HomeError::Exposed { .. })));
}

#[test]
fn a_secret_is_private_complete_and_not_overwritten() {
    let (_directory, home) = home();
    let path = home.key(&"ada".parse().unwrap());
    write_secret(&path, b"first", Overwrite::No).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(read_secret(&path).unwrap().as_slice(), b"first");
    assert!(matches!(write_secret(&path, b"second", Overwrite::No), Err(HomeError::Exists { .. })));
    assert_eq!(read_secret(&path).unwrap().as_slice(), b"first");
    write_secret(&path, b"third", Overwrite::Yes).unwrap();
    assert_eq!(read_secret(&path).unwrap().as_slice(), b"third");
    // Nothing but the file is left in its directory.
    let left: Vec<_> = fs::read_dir(home.keys()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["ada.pem"]);
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let (_directory, home) = home();
    // A directory cannot be replaced by a file.
    let path = home.root().join("taken");
    fs::create_dir(&path).unwrap();
    assert!(matches!(write_public(&path, b"x", Overwrite::Yes), Err(HomeError::Io { .. })));
    assert!(path.is_dir());
    let names: Vec<_> = fs::read_dir(home.root()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{names:?}");
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let (_directory, home) = home();
    write_public(&home.node_key(), b"oops", Overwrite::No).unwrap();
    assert_eq!(mode(&home.node_key()), 0o644);
    let error = read_secret(&home.node_key()).unwrap_err();
    assert!(matches!(error, HomeError::Exposed { expected: 0o600, got: 0o644, .. }), "{error}");
    assert!(error.hint().starts_with("run `chmod 600 '"), "{}", error.hint());
    fs::set_permissions(home.node_key(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(read_secret(&home.node_key()).unwrap().as_slice(), b"oops");
}

#[test]
fn what_is_no_secret_of_ours_is_not_read() {
    let (_directory, home) = home();
    let error = read_secret(&home.node_key()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", home.node_key().display()));
    let large = vec![b'x'; usize::try_from(MAX_FILE_BYTES).unwrap() + 1];
    write_secret(&home.node_key(), &large, Overwrite::No).unwrap();
    assert!(matches!(read_secret(&home.node_key()), Err(HomeError::Io { .. })));
}

#[test]
fn names_are_file_names_and_nothing_else() {
    for good in ["a", "Ada.Lovelace", "2026-key_1", &"x".repeat(MAX_NAME_BYTES)] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
    for bad in
        ["", ".", "..", ".hidden", "-rf", "a/b", "a b", "../x", "ä", "a\n", &"x".repeat(MAX_NAME_BYTES + 1)]
    {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
}

#[test]
fn keys_and_tables_are_listed_by_name() {
    let (_directory, home) = home();
    for name in ["zoe", "ada"] {
        write_secret(&home.key(&name.parse().unwrap()), b"", Overwrite::No).unwrap();
    }
    fs::write(home.keys().join("notes.txt"), "").unwrap();
    fs::write(home.keys().join("-bad.pem"), "").unwrap();
    assert_eq!(home.key_names().unwrap().iter().map(Name::as_ref).collect::<Vec<_>>(), ["ada", "zoe"]);
    assert_eq!(home.table_names().unwrap(), []);
}

#[test]
fn the_default_path_follows_the_environment() {
    let path = |set: &'static [(&str, &str)]| {
        Home::default_path(move |name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    };
    assert_eq!(path(&[("P2PDB_HOME", "/p"), ("XDG_DATA_HOME", "/x")]).unwrap(), Path::new("/p"));
    assert_eq!(path(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x/p2pdb"));
    assert_eq!(path(&[("XDG_DATA_HOME", ""), ("HOME", "/h")]).unwrap(), Path::new("/h/.local/share/p2pdb"));
    assert!(matches!(path(&[]), Err(HomeError::Unknown)));
}
