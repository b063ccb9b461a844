//! Key files, and openssl as the other reader and writer of them.
#![allow(clippy::print_stderr)]

use std::{fs, path::Path, process::Command};

use testing::{key, rng};

use super::{KeyError, PrivateKey, PublicKey, testing};

#[test]
fn files_are_read_back() {
    let key = key(0);
    let public = key.public_key();
    assert_eq!(PublicKey::from_pem(&public.to_pem().unwrap()).unwrap(), *public);
    let private = key.to_pem().unwrap();
    assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(PrivateKey::from_pem(&private, None).unwrap().public_key(), public);
    assert_eq!(PrivateKey::from_pem(&private, Some("not needed")).unwrap().to_pem().unwrap(), private);
    let windows = private.replace('\n', "\r\n");
    assert_eq!(PrivateKey::from_pem(&windows, None).unwrap().public_key(), public);
}

#[test]
fn an_encrypted_file_asks_for_its_passphrase() {
    let encrypted = key(0).to_encrypted_pem(&mut rng(), "p\u{e4}ss").unwrap();
    assert!(encrypted.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    let read = |passphrase| PrivateKey::from_pem(&encrypted, passphrase);
    assert_eq!(read(None).unwrap_err(), KeyError::NeedsPassphrase);
    assert_eq!(read(Some("pass")).unwrap_err(), KeyError::WrongPassphrase);
    assert_eq!(read(Some("")).unwrap_err(), KeyError::WrongPassphrase);
    assert_eq!(read(Some("p\u{e4}ss")).unwrap().public_key(), key(0).public_key());
}

#[test]
fn wrong_files_are_told_apart() {
    let public = key(0).public_key().to_pem().unwrap();
    let private = key(0).to_pem().unwrap();
    assert!(
        matches!(PublicKey::from_pem(&private), Err(KeyError::WrongType { got, .. }) if got == "PRIVATE KEY")
    );
    assert!(
        matches!(PrivateKey::from_pem(&public, None), Err(KeyError::WrongType { got, .. }) if got == "PUBLIC KEY")
    );
    let pkcs1 = private.replace("PRIVATE KEY", "RSA PRIVATE KEY");
    let refused = PrivateKey::from_pem(&pkcs1, None).unwrap_err().to_string();
    assert!(refused.contains("openssl pkcs8 -topk8"), "{refused}");
    for text in ["", "ssh-rsa AAAA", "-----BEGIN PUBLIC KEY-----\n", &public.replace("MII", "M!I")] {
        assert!(matches!(PublicKey::from_pem(text), Err(KeyError::NotAKey { .. })), "{text}");
        assert!(matches!(PrivateKey::from_pem(text, None), Err(KeyError::NotAKey { .. })), "{text}");
    }
}

#[test]
fn a_private_key_whose_numbers_do_not_fit_is_refused() {
    use rsa::pkcs8::{LineEnding, SecretDocument};
    let (_, document) =
        SecretDocument::from_pem(&key(0).to_pem().unwrap()).map(|(l, d)| (l.len(), d)).unwrap();
    let mut der = document.to_bytes().to_vec();
    // In the middle of the private exponent, which begins behind the modulus.
    der[450] ^= 1;
    let pem = SecretDocument::try_from(der).unwrap().to_pem("PRIVATE KEY", LineEnding::LF).unwrap();
    assert!(matches!(PrivateKey::from_pem(&pem, None), Err(KeyError::Broken { .. })));
}

/// Runs openssl in `directory` and returns what it wrote; `None` where it is not installed.
fn openssl(directory: &Path, arguments: &str) -> Option<String> {
    let run = Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output();
    let output = match run {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("openssl is not installed: not tested against it");
            return None;
        }
        Err(error) => panic!("openssl {arguments}: {error}"),
    };
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn openssl_reads_what_is_written_here() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let key = key(0);
    fs::write(path("public"), key.public_key().to_pem().unwrap()).unwrap();
    fs::write(path("private"), key.to_pem().unwrap()).unwrap();
    fs::write(path("encrypted"), key.to_encrypted_pem(&mut rng(), "secret").unwrap()).unwrap();

    let Some(public) = openssl(directory.path(), "pkey -pubin -in public -pubout") else { return };
    assert_eq!(public, key.public_key().to_pem().unwrap());
    assert_eq!(openssl(directory.path(), "pkey -check -noout -in private").unwrap().trim(), "Key is valid");
    assert_eq!(openssl(directory.path(), "pkey -in private").unwrap(), *key.to_pem().unwrap());
    let decrypted = openssl(directory.path(), "pkey -in encrypted -passin pass:secret").unwrap();
    assert_eq!(decrypted, *key.to_pem().unwrap());

    fs::write(path("message"), b"message").unwrap();
    fs::write(path("signature"), key.sign(&mut rng(), b"message").unwrap()).unwrap();
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256";
    let verified =
        openssl(directory.path(), &format!("dgst -sha256 {pss} -verify public -signature signature message"));
    assert_eq!(verified.unwrap().trim(), "Verified OK");
}

#[test]
fn what_openssl_writes_is_read_here() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &str| openssl(directory.path(), arguments);
    let file = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    if run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out private").is_none() {
        return;
    }
    run("pkey -in private -pubout -out public");
    run("pkcs8 -topk8 -in private -out pbkdf2 -v2 aes-256-cbc -v2prf hmacWithSHA256 -passout pass:secret");
    run("pkcs8 -topk8 -in private -out scrypt -scrypt -passout pass:secret");
    let public = PublicKey::from_pem(&file("public")).unwrap();
    assert_eq!(*PrivateKey::from_pem(&file("private"), None).unwrap().public_key(), public);
    for name in ["pbkdf2", "scrypt"] {
        let read = PrivateKey::from_pem(&file(name), Some("secret")).unwrap();
        assert_eq!(*read.public_key(), public, "{name}");
    }

    fs::write(directory.path().join("data"), [9; 32]).unwrap();
    let oaep = "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 \
                -pkeyopt rsa_oaep_label:703270646220636f6e74656e74206b6579207631";
    run(&format!("pkeyutl -encrypt -pubin -inkey public -in data -out wrapped {oaep}"));
    let wrapped = fs::read(directory.path().join("wrapped")).unwrap();
    let key = PrivateKey::from_pem(&file("private"), None).unwrap();
    assert_eq!(*key.decrypt(b"p2pdb content key v1", &wrapped).unwrap(), [9; 32]);

    run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small");
    assert_eq!(PrivateKey::from_pem(&file("small"), None).unwrap_err(), KeyError::WrongSize { got: 1024 });
    run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3 -out three");
    let refused = PrivateKey::from_pem(&file("three"), None).unwrap_err();
    assert_eq!(refused, KeyError::WrongExponent { got: "03".to_owned() });
    run("genpkey -algorithm ed25519 -out ed25519");
    assert!(matches!(PrivateKey::from_pem(&file("ed25519"), None), Err(KeyError::NotAKey { .. })));
}
