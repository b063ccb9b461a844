#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn items() -> Vec<Item> {
    let entry = |byte, length| Item::Entry(vec![byte; length].into());
    vec![
        Item::TableKey(vec![1; 294]),
        entry(2, 700),
        Item::TableKey(vec![3; 550]),
        entry(4, 0),
        entry(5, 70_000),
    ]
}

fn write(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in items {
        match item {
            Item::TableKey(spki) => writer.table_key(spki).unwrap(),
            Item::Entry(encoded) => writer.entry(encoded).unwrap(),
        }
    }
    writer.finish().unwrap()
}

fn read(file: &[u8]) -> (Vec<Item>, Option<ExportError>) {
    let mut items = Vec::new();
    match Reader::new(file) {
        Err(error) => (items, Some(error)),
        Ok(reader) => {
            for item in reader {
                match item {
                    Ok(item) => items.push(item),
                    Err(error) => return (items, Some(error)),
                }
            }
            (items, None)
        }
    }
}

#[test]
fn a_file_survives_writing_and_reading() {
    let (read, error) = read(&write(&items()));
    assert!(error.is_none());
    assert_eq!(read, items());
}

#[test]
fn a_truncated_file_gives_what_is_whole_and_then_says_so() {
    let file = write(&items());
    for length in [16, 17, 20, 400, 1100, 3000, file.len() - 1] {
        let (read, error) = read(file.get(..length).unwrap());
        assert!(items().starts_with(&read));
        assert!(matches!(error, Some(ExportError::Truncated { .. })), "{length}: {error:?}");
    }
    assert!(matches!(read(file.get(..15).unwrap()).1, Some(ExportError::NotAnExport)));
}

#[test]
fn a_claimed_length_is_checked_before_anything_is_read() {
    let file = [&MAGIC[..], &[0x82, 0x01, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat();
    assert!(matches!(read(&file).1, Some(ExportError::TooLarge { got: u64::MAX, .. })));
}

#[test]
fn a_wrong_count_bytes_after_the_end_and_unknown_items_are_errors() {
    let with = |items: &[u8]| read(&[MAGIC, items].concat()).1;
    assert!(with(&[0x82, 0x02, 0x00]).is_none());
    assert!(matches!(with(&[0x82, 0x02, 0x01]), Some(ExportError::WrongCount { entries: 0, stated: 1 })));
    for items in
        [&[0x82, 0x02, 0x00, 0x00][..], &[0x82, 0x03, 0x00], &[0x83, 0x00, 0x00], &[0x82, 0x00, 0x00]]
    {
        assert!(matches!(with(items), Some(ExportError::Malformed { .. })), "{items:?}");
    }
    // A length that is not in its shortest form.
    assert!(matches!(with(&[0x82, 0x01, 0x58, 0x01, 0xaa]), Some(ExportError::Malformed { .. })));
}

proptest! {
    #[test]
    fn random_items_never_panic(items: Vec<u8>) {
        read(&[MAGIC, &items[..]].concat());
    }
}
