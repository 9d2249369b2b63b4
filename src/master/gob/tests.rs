//! Against files that Go's own encoder wrote, and against everything that is not such a file.

use super::*;
use crate::master::record::{Figures, KEY_ID};
use crate::testing::Dice;

const ORIGINAL: &[u8] = include_bytes!("../../../tests/fuzz/corpus/state/original");
/// Records that know many things more than we do, of every type that gob has.
const UNKNOWN_FIELDS: &[u8] = include_bytes!("../../../tests/fuzz/corpus/state/unknown-fields");
/// Extreme numbers, a status that is not known, no maps; from a process whose types have other ids.
const TWO: &[u8] = include_bytes!("../../../tests/fuzz/corpus/state/two");

fn original() -> BTreeMap<String, Record> {
    decode(ORIGINAL).unwrap()
}

/// One record with every field set.
fn full() -> Record {
    let tags = [("owner", "team a"), ("region", "eu")].map(|(name, value)| (name.into(), value.into()));
    Record {
        id: "0123abcd".into(),
        alias: "web 一号".into(),
        kind: Kind::Server,
        status: Status::Error,
        url: "server://k@:1/:2?log=info".into(),
        config: "server://k@:1/:2?dial=auto&log=info".into(),
        restart: true,
        meta: Meta {
            peer: Peer { sid: "s".into(), kind: "1".into(), alias: "far".into() },
            tags: tags.into_iter().collect(),
        },
        figures: Figures {
            mode: -1,
            ping: i32::MAX,
            pool: i32::MIN,
            tcps: 63,
            udps: 64,
            tcprx: 127,
            tcptx: 128,
            udprx: 255,
            udptx: 256,
            base: [1, u64::MAX, 0, 1 << 63],
            reset: [0, 0x1234_5678, 65536, 0],
        },
        unsaved: None,
        warnings: Vec::new(),
    }
}

fn map(records: impl IntoIterator<Item = Record>) -> BTreeMap<String, Record> {
    records.into_iter().map(|record| (record.id.clone(), record)).collect()
}

/// Where in a file the message of the records begins: after five definitions.
fn records_at(file: &[u8]) -> usize {
    let mut rest = Bytes::new(file);
    for _ in 0..5 {
        assert_eq!(rest.next_message(), Ok(true));
    }
    file.len() - rest.left_after()
}

fn damaged(file: &[u8]) -> String {
    match decode(file) {
        Err(GobError::Damaged(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_the_original_is_read() {
    let records = original();
    let ids: Vec<_> = records.keys().map(String::as_str).collect();
    assert_eq!(ids, [KEY_ID, "3c9867f8", "c28cae70"]);
    let master = &records[KEY_ID];
    assert_eq!((master.kind, master.status, master.alias.as_str()), (Kind::Master, Status::None, "router"));
    assert_eq!((master.url.as_str(), master.config.as_str()), ("83dfe330da949e147dbb1a1a676080f6", "0bb6dc9e75cec74a"));
    let server = &records["3c9867f8"];
    assert_eq!((server.kind, server.status, server.restart), (Kind::Server, Status::Stopped, false));
    assert_eq!((server.alias.as_str(), server.meta.peer.alias.as_str()), ("web 一号", "far end"));
    assert_eq!(server.meta.peer.sid, "550e8400-e29b-41d4-a716-446655440000");
    assert_eq!((server.meta.tags["owner"].as_str(), server.meta.tags["region"].as_str()), ("team a", "eu"));
    assert_eq!(server.url, "server://secret@127.0.0.1:19101/127.0.0.1:19080?log=info&mode=1&tls=0");
    assert!(server.config.starts_with("server://secret@") && server.config.ends_with("&tls=0&type=0"));
    assert_eq!((server.figures.mode, server.figures.tcprx, server.figures.tcptx), (1, 79, 3502));
    let client = &records["c28cae70"];
    assert_eq!((client.kind, client.restart, client.meta.clone()), (Kind::Client, true, Meta::default()));
    assert_eq!((client.figures.mode, client.figures.tcprx, client.figures.tcptx), (2, 3502, 79));
    assert_eq!((client.figures.base, client.figures.reset), ([0; 4], [0; 4]));
}

#[test]
fn what_is_written_is_what_the_original_writes_byte_for_byte() {
    let records = original();
    let file = encode(&records);
    let at = records_at(ORIGINAL);
    assert_eq!(file[..at], ORIGINAL[..at], "the definitions");
    assert_eq!(file.len(), ORIGINAL.len());
    // Go's maps have no order: the records, and the one instance's tags, come as they come.
    let swap = |record: &[u8]| {
        let (ours, theirs) = (b"\x05owner\x06team a\x06region\x02eu", b"\x06region\x02eu\x05owner\x06team a");
        match record.windows(ours.len()).position(|part| part == ours) {
            Some(at) => [&record[..at], theirs, &record[at + ours.len()..]].concat(),
            None => record.to_vec(),
        }
    };
    let entry = |id: &str| {
        let mut entry = Vec::new();
        put_text(&mut entry, id);
        put_record(&mut entry, &records[id]);
        swap(&entry)
    };
    let head = b"\xfe\x02\xe8\xff\x88\x00\x03".to_vec();
    let all = [head, entry("3c9867f8"), entry("c28cae70"), entry(KEY_ID)].concat();
    assert_eq!(all, ORIGINAL[at..]);
}

#[test]
fn what_was_written_is_read_again() {
    let plain = Record { id: "0".into(), kind: Kind::Client, status: Status::Running, ..Record::default() };
    let key = Record { id: KEY_ID.into(), url: "k".into(), ..Record::default() };
    for records in [map([]), map([full()]), map([full(), plain, key]), original()] {
        assert_eq!(decode(&encode(&records)), Ok(records));
    }
}

#[test]
fn unknown_fields_of_every_type_are_passed_over_and_missing_ones_are_zero() {
    let records = decode(UNKNOWN_FIELDS).unwrap();
    let mut expected = Record {
        id: "0123abcd".into(),
        kind: Kind::Server,
        status: Status::Stopped,
        url: "server://:1/:2".into(),
        restart: true,
        ..Record::default()
    };
    expected.meta.peer = Peer { sid: "sid".into(), kind: "t".into(), alias: String::new() };
    expected.meta.tags.insert("a".into(), "b".into());
    (expected.figures.mode, expected.figures.tcprx, expected.figures.reset[3]) = (2, 65535, (1 << 63) + 9);
    assert_eq!(records["0123abcd"], expected);
    assert_eq!((records["0123abce"].kind, records.len()), (Kind::Client, 2));
}

#[test]
fn extreme_numbers_and_other_ids_of_types_are_read_and_an_unknown_status_is_stopped() {
    let records = decode(TWO).unwrap();
    let Record { status, figures, meta, .. } = &records["aaaaaaaa"];
    assert_eq!((figures.mode, figures.ping, figures.pool), (-1, i32::MAX, i32::MIN));
    assert_eq!((figures.tcprx, figures.base, figures.reset), (u64::MAX, [0, 0, 0, 128], [127, 0, 0, 0]));
    assert_eq!((*status, meta), (Status::Stopped, &Meta::default()));
    let none = include_bytes!("../../../tests/fuzz/corpus/state/none");
    assert_eq!(decode(none), Ok(BTreeMap::new()));
}

#[test]
fn a_record_that_cannot_be_is_named() {
    let known = encode(&map([full()]));
    let other = |from: &[u8], to: &[u8]| {
        let at = records_at(&known);
        let at = at + known[at..].windows(from.len()).position(|part| part == from).unwrap();
        damaged(&[&known[..at], to, &known[at + from.len()..]].concat())
    };
    assert_eq!(other(b"\x06server", b"\x06relays"), "instance 0123abcd: type relays is not known");
    assert_eq!(other(b"\x010123abcd"[1..].into(), b"x123abcd"), "instance x123abcd: it says that it is 0123abcd");
    let nameless = Record { kind: Kind::Master, ..full() };
    assert_eq!(damaged(&encode(&map([nameless]))), "instance 0123abcd: it has no type");
    let key = Record { id: KEY_ID.into(), ..full() };
    assert_eq!(damaged(&encode(&map([key]))), "instance ********: it has a type");
    assert_eq!(other("一号".as_bytes(), b"\xff\xff\xff\xff\xff\xff"), "instance 0123abcd: a text is not UTF-8");
    // 33 bits where 32 are declared.
    assert_eq!(other(b"\xfc\xff\xff\xff\xfe", b"\xfb\x02\0\0\0"), "instance 0123abcd: a number has more than 32 bits");
}

#[test]
fn every_shorter_part_of_a_file_is_cut_short() {
    for file in [ORIGINAL, UNKNOWN_FIELDS, TWO] {
        assert_eq!(decode(&file[..0]), Err(GobError::Empty));
        for length in 1..file.len() {
            assert_eq!(decode(&file[..length]), Err(GobError::Truncated), "{length}");
        }
    }
}

#[test]
fn files_of_something_else_are_foreign() {
    let text: [&[u8]; 8] = [
        b"hello",
        b"hello world, this is a text that is longer than its first byte says, whatever that may be in the end",
        b"{}",
        include_bytes!("../../../tests/fuzz/corpus/state/json"),
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0",
        b"PK\x03\x04\x14\0\0\0\x08\0",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        b"# comment\nkey=value\n",
    ];
    let gobs: [&[u8]; 4] = [
        include_bytes!("../../../tests/fuzz/corpus/state/numbers"),
        include_bytes!("../../../tests/fuzz/corpus/state/list"),
        include_bytes!("../../../tests/fuzz/corpus/state/one-record"),
        include_bytes!("../../../tests/fuzz/corpus/state/other-records"),
    ];
    for file in text.iter().chain(&gobs) {
        let found = decode(file);
        assert!(matches!(found, Err(GobError::Foreign(_))), "{:?}: {found:?}", file.escape_ascii().to_string());
    }
}

#[test]
fn nothing_but_zeros_is_empty_and_too_much_is_not_even_looked_at() {
    assert_eq!(decode(&[0; 4096]), Err(GobError::Empty));
    assert_eq!(decode(&vec![0; MAX_FILE]), Err(GobError::Empty));
    assert_eq!(decode(&vec![0; MAX_FILE + 1]), Err(GobError::TooLarge));
}

#[test]
fn bytes_after_the_records_do_no_harm() {
    assert_eq!(decode(&[ORIGINAL, b"\n\0\xff"].concat()), Ok(original()));
}

#[test]
fn a_length_beyond_the_end_asks_for_no_memory() {
    let head = &ORIGINAL[..records_at(ORIGINAL)];
    for count in [&b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\xfb\x7f\xff\xff\xff\xff", b"\xfc\x7f\xff\xff\xff"] {
        let body = [b"\xff\x88\0", count].concat();
        assert!(decode(&[head, &[body.len() as u8], &body].concat()).is_err());
        assert_eq!(decode(&[head, count].concat()), Err(GobError::Truncated));
    }
}

#[test]
fn depth_is_bounded() {
    // A record with a field that holds itself: struct { Type, URL string; In *Self }.
    let mut file = Vec::new();
    define_map(&mut file, STATE, "", STRING, INSTANCE);
    define_struct(&mut file, INSTANCE, "", &[("Type", STRING), ("URL", STRING), ("In", INSTANCE)]);
    let nested = |levels: usize| {
        let mut file = file.clone();
        message(&mut file, STATE, |out| {
            out.extend_from_slice(b"\0\x01\x01a\x01\x06client");
            out.push(2);
            out.extend(std::iter::repeat_n(3, levels - 1));
            out.extend(std::iter::repeat_n(0, levels + 1));
        });
        file
    };
    assert_eq!(decode(&nested(DEEP)).unwrap().len(), 1);
    assert!(damaged(&nested(DEEP + 1)).contains("deeper than"));
    assert!(damaged(&nested(100_000)).contains("deeper than"));
}

const DEEP: usize = types::DEEPEST;

#[test]
fn types_and_their_fields_are_bounded() {
    let mut file = Vec::new();
    for id in 0..300 {
        define_struct(&mut file, 64 + id, "", &[]);
    }
    assert_eq!(damaged(&file), "there are more than 256 types");
    let mut file = ORIGINAL[..16].to_vec();
    define_struct(&mut file, INSTANCE, "", &[("F", STRING); 257]);
    assert_eq!(damaged(&file), "a struct has more than 256 fields");
    assert_eq!(damaged(&[&ORIGINAL[..16], &ORIGINAL[..16]].concat()), "a type is defined twice");
}

#[test]
fn the_api_key_is_the_only_run_of_32_hex_digits() {
    let mut dice = Dice(7);
    for _ in 0..500 {
        let hex = |digits: usize, dice: &mut Dice| {
            (0..digits).map(|_| char::from(b"0123456789abcdef"[dice.below(16)])).collect::<String>()
        };
        let mut records = map([Record {
            id: KEY_ID.into(),
            alias: hex(31, &mut dice),
            url: hex(32, &mut dice),
            config: hex(16, &mut dice),
            ..Record::default()
        }]);
        for _ in 0..20 {
            let mut record = Record { id: hex(8, &mut dice), alias: hex(31, &mut dice), ..full() };
            record.url = format!("server://{}@:1/:2", hex(31, &mut dice));
            record.config = record.url.clone();
            record.meta.peer = Peer { sid: hex(31, &mut dice), kind: hex(31, &mut dice), alias: hex(31, &mut dice) };
            record.meta.tags = [(hex(31, &mut dice), hex(31, &mut dice))].into();
            for counter in record.figures.base.iter_mut().chain(&mut record.figures.reset) {
                *counter = u64::from_be_bytes(std::array::from_fn(|_| b"0123456789abcdef"[dice.below(16)]));
            }
            records.insert(record.id.clone(), record);
        }
        let file = encode(&records);
        let runs: Vec<&[u8]> =
            file.split(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')).filter(|run| run.len() >= 32).collect();
        assert_eq!(runs, [records[KEY_ID].url.as_bytes()]);
    }
}

#[test]
fn the_api_key_comes_first_whatever_else_looks_like_one() {
    let look = Record { alias: "f".repeat(32), ..full() };
    let key = Record { id: KEY_ID.into(), url: "0".repeat(32), ..Record::default() };
    let file = encode(&map([look, key]));
    let at = |byte: u8| file.windows(32).position(|run| run.iter().all(|&found| found == byte)).unwrap();
    assert!(at(b'0') < at(b'f'));
}

#[test]
fn damaged_files_are_refused_or_read_but_never_break_anything() {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let whole = [ORIGINAL.to_vec(), UNKNOWN_FIELDS.to_vec(), TWO.to_vec(), encode(&map([full()]))];
    let mut read = 0;
    for _ in 0..60_000 {
        let mut file = whole[dice.below(whole.len())].clone();
        for _ in 0..=dice.below(5) {
            let at = dice.below(file.len());
            let end = at + dice.below((file.len() - at).min(40));
            match dice.below(6) {
                0 => file[at] = dice.next() as u8,
                1 => file[at] ^= 1 << dice.below(8),
                2 => drop(file.drain(at..end)),
                3 => file.insert(at, b"\0\x01\x7f\xf8\xfc\xff"[dice.below(6)]),
                4 => drop(file.splice(at..at, file[at..end].to_vec())),
                _ => file.truncate(at + 1),
            }
        }
        if let Ok(records) = decode(&file) {
            assert_eq!(decode(&encode(&records)), Ok(records));
            read += 1;
        }
    }
    // Many changes hit a text or a number, where nothing can tell.
    assert!((1_000..59_000).contains(&read), "{read}");
}

#[test]
fn faults_are_told_in_words() {
    let told = [GobError::Empty, GobError::Truncated, GobError::TooLarge].map(|fault| fault.to_string());
    assert_eq!(told, ["it is empty", "it is cut short", "it has more than 67108864 bytes"]);
    assert_eq!(decode(b"hello").unwrap_err().to_string(), "it is not the state of a master (it does not begin as one)");
    assert_eq!(GobError::Damaged("why".into()).to_string(), "it is damaged (why)");
}
