//! `gateway token revoke`: shuts an app out.

use anyhow::Result;

use super::super::ask::ask;
use crate::{
    cli::{Exit, context::Context, output::note},
    config::Name,
};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The app
    name: Name,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let name = &args.name;
    ask::<serde_json::Value>(&context.home()?, "DELETE", &format!("/v1/tokens/{name}"), None)?;
    note(&format!("the token of {name} is not valid any more"));
    Ok(Exit::Success)
}
