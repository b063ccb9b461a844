//! The page with the card of a space as a QR code: what others need to find the table, and no private key.

use std::{fmt::Write as _, sync::Arc};

use axum::{extract::State, http::HeaderMap, response::Response};
use p2pdb_protocol::card::TableCard;
use qrcode::{Color, EcLevel, QrCode};

use super::{Escaped, check, code, document};
use crate::gateway::{App, api::extract::Segments, problem::Problem};

/// Quiet modules around the code, which readers of codes need.
const MARGIN: usize = 4;

/// The card of one space.
pub(in crate::gateway::api) async fn card(
    State(app): State<Arc<App>>,
    Segments([place, name]): Segments<2>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check(&app, &place, &headers)?;
    let space = app.spaces.find(&name)?;
    let public = TableCard { table_private: None, recipient_private: None, ..space.card.clone() };
    let text = public.to_toml().map_err(|error| Problem::internal(&error))?;
    let shown = match svg(&text) {
        Some(svg) => format!("<p>{svg}"),
        None => "<p>The card is longer than a QR code can be: its list of bootstrap nodes is.".to_owned(),
    };
    let name = Escaped(space.name.as_ref()).to_string();
    Ok(document(
        &format!("the card of {name}"),
        "",
        &format!(
            "<p><a href=\"/page/{place}\">back</a><h1>The card of {name}</h1>\
             <p>With it others find the table and see that something is posted. It has no private key: nobody can post or read \
             with it.{shown}<p>{}<p>As a file, or to let others post or read too:<pre>p2pdb table share {name} {name}.toml\n\
             p2pdb table share {name} {name}.toml --with read|post|all</pre><details><summary>The card as text</summary>\
             <pre>{}</pre></details>",
            code(&space.table().to_string()),
            Escaped(&text),
        ),
    ))
}

/// A text as a QR code; nothing if it is too long for one.
fn svg(text: &str) -> Option<String> {
    // A card is read off a screen: little can be wrong with it, and fewer modules are easier to read.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (width, colors) = (code.width(), code.to_colors());
    let mut path = String::new();
    for (y, row) in colors.chunks(width).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run.first() == Some(&Color::Dark) {
                // Writing to a string does not fail.
                let _ = write!(path, "M{} {}h{}v1h-{}z", x + MARGIN, y + MARGIN, run.len(), run.len());
            }
            x += run.len();
        }
    }
    let size = width + 2 * MARGIN;
    Some(format!(
        "<svg class=code role=img aria-label=\"the card as a QR code\" viewBox=\"0 0 {size} {size}\" shape-rendering=crispEdges>\
         <rect width={size} height={size} fill=#fff></rect><path fill=#000 d=\"{path}\"></path></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dark_module_is_drawn_once() {
        let text = "p2pdb".repeat(100);
        let code = QrCode::with_error_correction_level(&text, EcLevel::L).unwrap();
        let dark = code.to_colors().iter().filter(|color| **color == Color::Dark).count();
        let svg = svg(&text).unwrap();
        let drawn: usize =
            svg.split('h').filter_map(|run| run.split_once("v1")?.0.parse::<usize>().ok()).sum();
        assert_eq!(drawn, dark);
        assert!(svg.contains(&format!("viewBox=\"0 0 {0} {0}\"", code.width() + 8)));
    }

    #[test]
    fn what_is_too_long_is_no_code() {
        assert!(svg(&"x".repeat(2953)).is_some());
        assert!(svg(&"x".repeat(2954)).is_none());
    }
}
