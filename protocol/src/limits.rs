//! Every bound that SPEC.md states, by name.

/// Recipients of one entry (SPEC 4.2).
pub const MAX_RECIPIENTS: usize = 16;
/// Smallest and largest RSA modulus, in bits (SPEC 3.1).
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// RSA modulus of a new key, in bits, unless asked otherwise (SPEC 3.1).
pub const DEFAULT_RSA_BITS: usize = 3072;
/// Smallest and largest RSA signature or wrapped key, in bytes (SPEC 4.2, 6.1).
pub const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// Largest SPKI DER encoding of a permitted public key, in bytes; 4096 bits need 550.
pub const MAX_SPKI_BYTES: usize = 640;
/// Largest encoded entry that any network may permit, in bytes (SPEC 2.1).
pub const MAX_ENTRY_BYTES: usize = 524_288;
/// Longest media type of a content, in bytes (SPEC 4.4).
pub const MAX_MEDIA_TYPE_BYTES: usize = 255;
/// Largest number of leading id bits that name a bucket (SPEC 2.1): 4,096 buckets.
pub const MAX_BUCKET_BITS: u8 = 12;
/// Largest number of buckets in an index; more than 2^[`MAX_BUCKET_BITS`] cannot be told apart.
pub const MAX_BUCKETS: usize = 1 << MAX_BUCKET_BITS;
/// Puzzles of one proof of work (SPEC 2.1).
pub const MAX_WORK_PUZZLES: u64 = 256;
/// Digests remembered per table and bucket (SPEC 10.4).
pub const MAX_SEEN_DIGESTS: usize = 1000;

/// Addresses in a node record (SPEC 7.1).
pub const MAX_RECORD_ADDRESSES: usize = 8;
/// Length of one binary multiaddr in a node record, in bytes (SPEC 7.1).
pub const MAX_ADDRESS_BYTES: usize = 256;
/// Tables in a node record or a hello request (SPEC 7.1, 8.3).
pub const MAX_TABLES: usize = 256;
/// Largest encoded node record, in bytes (SPEC 7.2).
pub const MAX_RECORD_BYTES: usize = 12_288;
/// Records of others in a hello response (SPEC 8.3).
pub const MAX_HELLO_RECORDS: usize = 32;

/// Entries in one put request (SPEC 8.4).
pub const MAX_PUT_ENTRIES: usize = 256;
/// Table keys in one put request (SPEC 8.4).
pub const MAX_PUT_KEYS: usize = 16;
/// Ids in one get request (SPEC 8.5).
pub const MAX_GET_IDS: usize = 1024;
/// Tables in one get request (SPEC 8.5).
pub const MAX_GET_TABLES: usize = 64;
/// Recipients in one get request (SPEC 8.5).
pub const MAX_GET_RECIPIENTS: usize = 128;
/// Entries in one get response (SPEC 8.5).
pub const MAX_GET_ENTRIES: usize = 1000;
/// Entries in one get response unless asked otherwise (SPEC 8.5).
pub const DEFAULT_GET_ENTRIES: usize = 100;
/// Bytes of entries in one get response (SPEC 8.5).
pub const MAX_GET_BYTES: usize = 1 << 20;
/// Ids in one index response (SPEC 8.6).
pub const MAX_INDEX_IDS: usize = 2048;
/// Sids in one get request (SPEC 8.5).
pub const MAX_GET_SIDS: usize = 4096;
/// Roots that a sync request may name for one table, or for all (SPEC 8.7).
pub const MAX_SYNC_CANDIDATES: usize = 2;
/// Bytes of syndromes in one sync response (SPEC 8.7): 64 of 8 bytes for each of 4,096 groups.
pub const MAX_SYNC_SYNDROME_BYTES: usize = 2 << 20;
/// Ids in one announce (SPEC 9.1).
pub const MAX_ANNOUNCE_IDS: usize = 64;

/// Largest hello request frame, in bytes (SPEC 8.1).
pub const HELLO_REQUEST_BYTES: usize = 24 << 10;
/// Largest hello response frame, in bytes (SPEC 8.1).
pub const HELLO_RESPONSE_BYTES: usize = 64 << 10;
/// Largest put request frame, in bytes (SPEC 8.1).
pub const PUT_REQUEST_BYTES: usize = 1 << 20;
/// Largest put response frame, in bytes (SPEC 8.1).
pub const PUT_RESPONSE_BYTES: usize = 16 << 10;
/// Largest get request frame, in bytes (SPEC 8.1).
pub const GET_REQUEST_BYTES: usize = 64 << 10;
/// Largest get response frame, in bytes (SPEC 8.1).
pub const GET_RESPONSE_BYTES: usize = (1 << 20) + (64 << 10);
/// Largest index request frame, in bytes (SPEC 8.1).
pub const INDEX_REQUEST_BYTES: usize = 8 << 10;
/// Largest index response frame, in bytes (SPEC 8.1).
pub const INDEX_RESPONSE_BYTES: usize = 256 << 10;
/// Largest sync request frame, in bytes (SPEC 8.1).
pub const SYNC_REQUEST_BYTES: usize = 24 << 10;
/// Largest sync response frame, in bytes (SPEC 8.1).
pub const SYNC_RESPONSE_BYTES: usize = (2 << 20) + (64 << 10);
