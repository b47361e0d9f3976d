// Rival of bench/book.py: an L2 book as two std BTreeMaps, price to quantity.
//
//     book FILE PASSES: prints thread CPU nanoseconds of the passes behind the first, and the checksum
//
// FILE holds int64 triples (side 0 bid or 1 ask, price, quantity; quantity 0 removes). After each
// update the best bid and ask are read, with their quantities.

use std::collections::BTreeMap;
use std::hint::black_box;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

fn thread_time_ns() -> i64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.seconds * 1_000_000_000 + time.nanoseconds
}

fn replay(updates: &[[i64; 3]], bids: &mut BTreeMap<i64, i64>, asks: &mut BTreeMap<i64, i64>) -> i64 {
    let mut checksum: i64 = 0;
    for (i, &[side, price, qty]) in updates.iter().enumerate() {
        let levels = if side == 0 { &mut *bids } else { &mut *asks };
        if qty == 0 {
            levels.remove(&price);
        } else {
            levels.insert(price, qty);
        }
        let (bid, bid_qty) = bids.last_key_value().map_or((0, 0), |(p, q)| (*p, *q));
        let (ask, ask_qty) = asks.first_key_value().map_or((0, 0), |(p, q)| (*p, *q));
        checksum += (bid ^ ask) + (bid_qty ^ ask_qty) * 3 + (i as i64 & 1023) * (bid & 1023);
    }
    checksum
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(&arguments[1]).expect("file of updates");
    let passes: usize = arguments[2].parse().expect("number of passes");
    let words: Vec<i64> = bytes
        .chunks_exact(8)
        .map(|word| i64::from_le_bytes(word.try_into().unwrap()))
        .collect();
    let updates: Vec<[i64; 3]> = words.chunks_exact(3).map(|w| [w[0], w[1], w[2]]).collect();
    let mut elapsed_ns = 0;
    let mut checksum = 0;
    for pass in 0..=passes {
        let mut bids = BTreeMap::new();
        let mut asks = BTreeMap::new();
        let start_ns = thread_time_ns();
        checksum = black_box(replay(black_box(&updates), &mut bids, &mut asks));
        if pass > 0 {
            elapsed_ns += thread_time_ns() - start_ns;
        }
    }
    println!("{elapsed_ns} {checksum}");
}
