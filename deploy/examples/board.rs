//! A board in a terminal: posts one line to a table and prints what everybody posts, as it comes.
//!
//! `cargo run --release --example board -- CARD "Hello"`, the card being made by `p2pdb table new board --shared-recipient` and
//! `p2pdb table share board --with all CARD`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what it is for")]

use p2pdb::{
    client::{Client, ClientConfig, Post},
    protocol::{card::TableCard, filter::Filter, seal},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, text] = &args[..] else { return Err("usage: board CARD TEXT".into()) };
    let card = TableCard::parse(&std::fs::read_to_string(file)?)?;
    let table = card.table_private.as_ref().ok_or("the card does not let you post")?;
    let reader = card.recipient_private.as_ref().ok_or("the card does not let you read")?;
    let client = Client::start(ClientConfig::new(&card.network)?).await?;

    let readers = [reader.public_key().clone()];
    let content = seal::Content::text(text);
    let (_, report) = client.post(Post::new(table, &readers, &content)).await?;
    eprintln!("held by {} of {} nodes", report.holders().count(), report.nodes.len());

    let mut news = client.follow(Filter::table(card.table_public.table_id()))?;
    while let Some(entry) = news.next().await {
        if let Ok(opened) = seal::open(&entry, reader) {
            println!("{}", String::from_utf8_lossy(&opened.content.data));
        }
    }
    Ok(())
}
