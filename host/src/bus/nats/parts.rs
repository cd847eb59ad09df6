//! What is larger than one message of NATS, in parts: what is said of it before, and how it is cut up and put together.
//!
//! Whoever gets it asks for each part by its number, and so says how fast it comes; whoever gives it gives each part once.
//! Deliberately not here: how parts travel, how many at a time, and for how long they are waited for. That is `carry`.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use uuid::Uuid;

/// The largest part: what else goes over the connection does not wait for long behind one.
const LARGEST: usize = 256 << 10;
/// The smallest: whatever a peer says, a thing has not more parts than that makes.
const SMALLEST: usize = 1 << 10;

/// What is said of a thing before its parts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// By which it is asked for: nobody guesses it.
    pub id: Uuid,
    /// Its bytes.
    pub size: usize,
    /// The bytes of each part but the last.
    part: usize,
}

impl Offer {
    /// For a thing of so many bytes, where a message takes `most`; `None` when that is too little for a part.
    pub fn of(size: usize, most: usize) -> Option<Self> {
        let part = most.min(LARGEST);
        (size > 0 && part >= SMALLEST).then(|| Self { id: Uuid::new_v4(), size, part })
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.size.div_ceil(self.part)
    }

    /// How many parts make so many bytes; at least one.
    pub fn parts_in(&self, bytes: usize) -> usize {
        (bytes / self.part).max(1)
    }

    fn range(&self, number: usize) -> Option<Range<usize>> {
        let from = number.checked_mul(self.part).filter(|from| *from < self.size)?;
        Some(from..self.size.min(from + self.part))
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id.simple(), self.size, self.part)
    }
}

impl FromStr for Offer {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Self, Broken> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(Broken::Offer);
        let id = next()?.parse().map_err(|_| Broken::Offer)?;
        let mut number = || next()?.parse().map_err(|_| Broken::Offer);
        let (size, part): (usize, usize) = (number()?, number()?);
        let is_sound = size > 0 && (SMALLEST..=LARGEST).contains(&part) && words.next().is_none();
        if is_sound { Ok(Self { id, size, part }) } else { Err(Broken::Offer) }
    }
}

/// What is wrong with what a peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// An offer that is none.
    #[error("what was said of it cannot be read")]
    Offer,
    /// Another part than the one that was asked for.
    #[error("its parts came in the wrong order")]
    Order,
    /// A part that is longer or shorter than it must be.
    #[error("a part of it has the wrong size")]
    Size,
}

/// A thing that is given away.
#[derive(Debug)]
pub(super) struct Giving {
    /// What is said of it.
    pub offer: Offer,
    bytes: Bytes,
    given: Vec<bool>,
    left: usize,
}

impl Giving {
    pub fn new(offer: Offer, bytes: Bytes) -> Self {
        let count = offer.count();
        Self { offer, bytes, given: vec![false; count], left: count }
    }

    /// A part, once: whoever asks again asks for nothing that there is.
    pub fn give(&mut self, number: usize) -> Option<Bytes> {
        let range = self.offer.range(number)?;
        if std::mem::replace(self.given.get_mut(number)?, true) {
            return None;
        }
        self.left -= 1;
        Some(self.bytes.slice(range))
    }

    /// Whether every part was given.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }
}

/// A thing that comes.
#[derive(Debug)]
pub(super) struct Taking {
    offer: Offer,
    bytes: BytesMut,
    next: usize,
}

impl Taking {
    pub fn new(offer: Offer) -> Self {
        Self { offer, bytes: BytesMut::with_capacity(offer.size), next: 0 }
    }

    /// Takes the next part.
    pub fn take(&mut self, number: usize, part: &[u8]) -> Result<(), Broken> {
        let range = self.offer.range(number).filter(|_| number == self.next).ok_or(Broken::Order)?;
        if range.len() != part.len() {
            return Err(Broken::Size);
        }
        self.bytes.extend_from_slice(part);
        self.next += 1;
        Ok(())
    }

    /// All of it; `None` while parts are missing.
    pub fn whole(self) -> Option<Bytes> {
        (self.bytes.len() == self.offer.size).then(|| self.bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 2 << 10;

    fn thing(size: usize) -> Bytes {
        (0..size).map(|at| u8::try_from(at % 251).expect("a byte")).collect()
    }

    fn offered(size: usize) -> (Giving, Taking) {
        let offer = Offer::of(size, MOST).expect("an offer");
        let told = offer.to_string().parse().expect("is read");
        assert_eq!(offer, told);
        (Giving::new(offer, thing(size)), Taking::new(told))
    }

    #[test]
    fn a_thing_of_any_size_arrives_as_it_was() {
        for size in [1, MOST - 1, MOST, MOST + 1, 3 * MOST, 3 * MOST + 7] {
            let (mut giving, mut taking) = offered(size);
            assert_eq!(giving.offer.count(), size.div_ceil(MOST));
            for number in 0..giving.offer.count() {
                assert!(!giving.is_over());
                taking.take(number, &giving.give(number).expect("a part")).expect("is taken");
            }
            assert!(giving.is_over());
            assert_eq!(taking.whole().expect("all of it"), thing(size), "{size}");
        }
    }

    #[test]
    fn parts_that_are_missing_repeated_swapped_or_cut_make_nothing() {
        let (mut giving, mut taking) = offered(3 * MOST);
        let parts: Vec<Bytes> = (0..3).map(|number| giving.give(number).expect("a part")).collect();
        taking.take(0, &parts[0]).expect("is taken");
        assert_eq!(taking.take(0, &parts[0]), Err(Broken::Order), "repeated");
        assert_eq!(taking.take(2, &parts[2]), Err(Broken::Order), "one is missing");
        assert_eq!(taking.take(3, &parts[2]), Err(Broken::Order), "there is none of that number");
        assert_eq!(taking.take(usize::MAX, &parts[2]), Err(Broken::Order));
        assert_eq!(taking.take(1, &parts[1][1..]), Err(Broken::Size));
        assert_eq!(taking.take(1, &thing(MOST + 1)), Err(Broken::Size));
        taking.take(1, &parts[1]).expect("what was refused changed nothing");
        assert!(taking.whole().is_none(), "the last one has not come");
    }

    #[test]
    fn each_part_is_given_once() {
        let (mut giving, _) = offered(2 * MOST);
        assert!(giving.give(1).is_some());
        assert!(giving.give(1).is_none());
        assert!(giving.give(2).is_none());
        assert!(giving.give(usize::MAX).is_none());
        assert!(!giving.is_over());
        assert!(giving.give(0).is_some());
        assert!(giving.is_over());
    }

    #[test]
    fn an_offer_of_a_peer_that_is_not_sound_is_none() {
        let id = Uuid::from_u128(7).simple();
        assert!(format!("{id} 5000000 262144").parse::<Offer>().is_ok());
        for offer in [
            String::new(),
            format!("{id}"),
            format!("{id} 5000000"),
            format!("{id} 0 2048"),
            format!("{id} 5000000 0"),
            format!("{id} 5000000 1023"),
            format!("{id} 5000000 262145"),
            format!("{id} -1 2048"),
            format!("{id} 99999999999999999999999 2048"),
            format!("{id} 5000000 2048 more"),
            "somewhere.else.> 5000000 2048".to_owned(),
        ] {
            assert_eq!(offer.parse::<Offer>(), Err(Broken::Offer), "{offer}");
        }
    }

    #[test]
    fn where_a_message_takes_next_to_nothing_nothing_is_offered() {
        assert!(Offer::of(5_000, SMALLEST - 1).is_none());
        assert_eq!(Offer::of(5 << 20, 64 << 20).expect("an offer").count(), 20, "a part stays small");
    }
}
