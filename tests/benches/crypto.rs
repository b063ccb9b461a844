//! RSA: what nodes and clients spend most of their time on, against `openssl speed` and against pure Rust.

use std::{collections::HashMap, process::Command};

use anyhow::{Context as _, Result, ensure};
use getrandom::SysRng;
use p2pdb::protocol::{
    entry::{UnverifiedEntry, signed_message},
    id::EntryId,
};
use rand_core::UnwrapErr;
use rsa::{Oaep, pkcs8::DecodePrivateKey as _};
use sha2::Sha256;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, network, table_key},
    micro::seconds_per_call,
};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let (mut rows, mut admissions) = (Vec::new(), Vec::new());
    for bits in bench.bits(&[2048, 3072, 4096]) {
        rows.extend(operations(bench, bits, &openssl(bits, bench.pick("1", "0")))?);
        admissions.push(admission(bench, bits)?);
    }
    let settings = "processor time of one core; messages of 50 bytes, keys parsed once; `openssl speed` as it is installed";
    bench.show(settings, &rows);
    bench.show("processor time of one core; an entry of 1 KiB: decode, check its work, verify", &admissions);
    Ok(())
}

/// Operations a second of `openssl speed`, by name; none where it is not installed.
fn openssl(bits: usize, seconds: &str) -> HashMap<&'static str, f64> {
    let rsa = format!("rsa{bits}");
    let output = Command::new("openssl").args(["speed", "-mr", "-seconds", seconds, &rsa]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // +F2:2:2048:SIGN:VERIFY
    let line = text.lines().find_map(|line| line.strip_prefix("+F2:")).unwrap_or_default();
    let rates = line.split(':').skip(2).map_while(|rate| rate.parse().ok()).filter(|rate| *rate > 0.0);
    // Decryption is the private operation, like signing.
    ["sign", "verify"].into_iter().zip(rates).collect()
}

fn operations(bench: &Bench, bits: usize, openssl: &HashMap<&'static str, f64>) -> Result<Vec<Row>> {
    let mut rng = UnwrapErr(SysRng);
    let key = table_key(bits)?;
    let public = key.public_key();
    let pure = rsa::PrivateKey::from_pkcs8_pem(&key.to_pem()?)?;
    let pure_public = pure.to_public_key();
    let message = signed_message(&EntryId::from_bytes([7; 32]));
    let label = b"label";
    let padding = || Oaep::<Sha256>::new_with_label(*label);

    let signature = key.sign(&mut rng, &message)?;
    let ciphertext = public.encrypt(&mut rng, label, &[9; 32])?;
    // One library takes what the other made: both do the same work.
    pure_public.pss_verify::<Sha256>(&message, &signature)?;
    public.verify(&message, &pure.pss_sign_with_rng::<Sha256, _>(&mut rng, &message)?)?;
    ensure!(pure.decrypt(padding(), &ciphertext)? == [9; 32], "the libraries decrypt differently");

    let rate = |seconds: f64| 1.0 / seconds;
    let verify = rate(seconds_per_call(bench, || public.verify(&message, &signature)));
    let pure_verify =
        rate(seconds_per_call(bench, || pure_public.pss_verify::<Sha256>(&message, &signature)));
    let sign = rate(seconds_per_call(bench, || key.sign(&mut UnwrapErr(SysRng), &message)));
    let pure_sign = rate(seconds_per_call(bench, || {
        pure.pss_sign_with_rng::<Sha256, _>(&mut UnwrapErr(SysRng), &message)
    }));
    let decrypt = rate(seconds_per_call(bench, || key.decrypt(label, &ciphertext)));
    let pure_decrypt = rate(seconds_per_call(bench, || pure.decrypt(padding(), &ciphertext)));
    let row = |operation: &'static str, ours: f64, pure: f64, theirs: Option<f64>| {
        Row::new()
            .count("bits", bits as u64)
            .text("operation", operation)
            .number("per_s", ours)
            .maybe("openssl_per_s", theirs)
            .maybe("ratio_to_openssl", theirs.map(|theirs| ours / theirs))
            .number("pure_rust_per_s", pure)
            .number("ratio_to_pure_rust", ours / pure)
    };
    let of = |name: &str| openssl.get(name).copied();
    Ok(vec![
        row("verify", verify, pure_verify, of("verify")),
        row("sign", sign, pure_sign, of("sign")),
        // The private operation, like signing.
        row("decrypt", decrypt, pure_decrypt, of("sign")),
    ])
}

/// All that admission computes for an entry of 1 KiB: what is left of the bare verification.
fn admission(bench: &Bench, bits: usize) -> Result<Row> {
    let data = Dataset::new(Spec::of(100, bits))?;
    let encoded = data.entries()?.first().context("no entries")?.encoded().clone();
    let (network, key) = (network().network, table_key(bits)?);
    let key = key.public_key();
    let admit = || UnverifiedEntry::decode(encoded.clone(), &network)?.check_work(&network)?.verify(key);
    admit()?;
    let whole = 1.0 / seconds_per_call(bench, admit);
    let message = signed_message(&UnverifiedEntry::decode(encoded.clone(), &network)?.id());
    let signature = data.table.sign(&mut UnwrapErr(SysRng), &message)?;
    let bare = 1.0 / seconds_per_call(bench, || key.verify(&message, &signature));
    Ok(Row::new()
        .count("bits", bits as u64)
        .number("admitted_per_s", whole)
        .number("bare_verify_per_s", bare)
        .number("ratio", whole / bare))
}
