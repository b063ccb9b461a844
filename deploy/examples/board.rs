//! A board in a terminal: posts one line to a table and prints what everybody posts, as it comes.
//!
//! `cargo run --example board -- CARD "Hello"`, the card being made by `p2pdb table new board --shared-key` and
//! `p2pdb table share board CARD --with all`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what it is for")]

use std::{env, error::Error, num::NonZeroUsize, sync::atomic::AtomicBool};

use p2pdb::{
    client::{Client, ClientConfig},
    clock::Clock,
    protocol::{card::TableCard, filter::Filter, pow::Solver, seal},
};
use rand_core::UnwrapErr;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, file, text] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: board CARD TEXT".into());
    };
    let card = TableCard::parse(&std::fs::read_to_string(file)?)?;
    let table = card.table_private.as_ref().ok_or("the card does not let you post")?;
    let reader = card.recipient_private.as_ref().ok_or("the card does not let you read")?;
    let client = Client::start(ClientConfig::new(&card.network)?).await?;

    // Post: seal it for the readers, do the proof of work, and put it to several nodes.
    let network = &card.network.network;
    let content =
        seal::Content { media_type: "text/plain; charset=utf-8".into(), data: text.as_bytes().into() };
    let recipients = [reader.public_key().clone()];
    let created = Clock::system().now();
    let draft = seal::Draft {
        table,
        recipients: &recipients,
        created,
        expires: None,
        content: &content,
        author: None,
    };
    let sealed = draft.seal(&mut UnwrapErr(getrandom::SysRng), network)?;
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let work = Solver::new(sealed.puzzle(network)).solve(cores, &AtomicBool::new(false), &|_| {})?;
    let report = client.put(&sealed.finish(&work, network)?, &card.table_public).await?;
    eprintln!("{} nodes hold it", report.holders().count());

    // Follow: what is there already, then what comes.
    let mut news = client.follow(Filter::table(card.table_public.table_id()))?;
    while let Some(entry) = news.next().await {
        if let Ok(opened) = seal::open(&entry, reader) {
            println!("{}", String::from_utf8_lossy(&opened.content.data));
        }
    }
    Ok(())
}
