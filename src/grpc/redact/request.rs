//! Scanning of a request to Config for its operation.
//!
//! The operation is known once the request is complete, and only if it is encoded as clients encode
//! it, so that no driver can parse a different one. Ambiguous and compressed requests have an
//! unknown operation, for which the most keys are hidden.

use crate::grpc::prefix::{self, MessagePrefix};
use crate::grpc::protobuf::Varint;

/// The field number of the operation in `ConfigRequest`.
const OPERATION: u64 = 3;
/// The operations whose responses have complete keys, or no pairs: `Set`, `Get`, `GetWithDefault`,
/// `GetOption` and `Unset`.
const BY_KEY: [u64; 5] = [1, 2, 3, 4, 6];
const GET_ALL: u64 = 5;
const IS_MODIFIABLE: u64 = 7;

/// The operation of a request, as far as redaction needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigOperation {
    /// The response has complete keys with values.
    ByKey,
    /// `GetAll` with a prefix, which the response omits from its keys; or an ambiguous request.
    Unknown,
    /// The response has no values, only whether keys can be changed.
    IsModifiable,
}

/// The scanner of one request.
#[derive(Debug)]
pub(super) struct RequestScanner {
    step: Step,
    /// Octets of the message still to come.
    left: u64,
    /// Octets of the current operation field still to come.
    operation_left: Option<u64>,
    varint: Varint,
    has_operation: bool,
    operation: Option<ConfigOperation>,
}

/// The element that the next octet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prefix(MessagePrefix),
    Tag,
    Number,
    /// The length of a field.
    Length(FieldKind),
    /// Skipped content, of which this number of octets (at least one) is left.
    Skip(u64),
    /// The message is complete; no octet may follow.
    Complete,
    /// The message is ambiguous.
    Ambiguous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Operation,
    /// The operation with this field number.
    Inner(u64),
    Other,
}

/// Two parsers could interpret the request differently.
struct Ambiguous;

impl RequestScanner {
    pub(super) fn new() -> Self {
        let step = Step::Prefix(MessagePrefix::default());
        let (varint, has_operation) = (Varint::default(), false);
        Self { step, left: 0, operation_left: None, varint, has_operation, operation: None }
    }

    /// The operation, if the request is complete and unambiguous.
    pub(super) fn operation(&self) -> ConfigOperation {
        self.operation.filter(|_| self.step == Step::Complete).unwrap_or(ConfigOperation::Unknown)
    }

    /// Scans the next octets of the request.
    pub(super) fn scan(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() && self.step != Step::Ambiguous {
            match self.scan_step(octets) {
                Ok(taken) => octets = octets.get(taken..).unwrap_or_default(),
                Err(Ambiguous) => self.step = Step::Ambiguous,
            }
        }
    }

    fn scan_step(&mut self, octets: &[u8]) -> Result<usize, Ambiguous> {
        match self.step {
            Step::Prefix(mut prefix) => {
                let filled = prefix.fill(octets);
                if prefix.flag().is_some_and(|flag| flag != 0) {
                    return Err(Ambiguous);
                }
                self.step = Step::Prefix(prefix);
                if let Some(whole) = prefix.whole() {
                    self.left = u64::from(prefix::length(whole));
                    self.next_field();
                }
                Ok(filled)
            }
            Step::Skip(left) => {
                let taken = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let taken_long = u64::try_from(taken).unwrap_or(left);
                self.spend(taken_long)?;
                self.skip(left.saturating_sub(taken_long));
                Ok(taken)
            }
            Step::Tag | Step::Number | Step::Length(_) => {
                octets.first().map_or(Ok(()), |octet| self.octet(*octet)).map(|()| 1)
            }
            Step::Complete | Step::Ambiguous => Err(Ambiguous),
        }
    }

    /// Handles one octet of a tag, a number or a length.
    fn octet(&mut self, octet: u8) -> Result<(), Ambiguous> {
        self.spend(1)?;
        let Some(value) = self.varint.push(octet).map_err(|_| Ambiguous)? else { return Ok(()) };
        self.varint = Varint::default();
        match self.step {
            Step::Tag => return self.tag(value),
            Step::Length(of) => {
                self.check_fits(value)?;
                match of {
                    FieldKind::Operation => {
                        self.operation_left = Some(value);
                        self.next_field();
                    }
                    FieldKind::Inner(number) => {
                        self.operation = Some(operation_of(number, value)?);
                        self.skip(value);
                    }
                    FieldKind::Other => self.skip(value),
                }
            }
            Step::Number | Step::Prefix(_) | Step::Skip(_) | Step::Complete | Step::Ambiguous => {
                self.next_field();
            }
        }
        Ok(())
    }

    fn tag(&mut self, tag: u64) -> Result<(), Ambiguous> {
        // Drivers ignore the bits of a tag above 32.
        let (number, kind) = (u32::try_from(tag).map_err(|_| Ambiguous)? >> 3, tag & 7);
        match (self.operation_left, u64::from(number), kind) {
            (None, OPERATION, 2) if !self.has_operation => {
                self.has_operation = true;
                self.step = Step::Length(FieldKind::Operation);
            }
            (Some(_), number, 2) if self.operation.is_none() => {
                self.step = Step::Length(FieldKind::Inner(number));
            }
            (Some(_), _, _) | (None, OPERATION | 0, _) => return Err(Ambiguous),
            (None, _, 0) => self.step = Step::Number,
            (None, _, 1) => self.skip(8),
            (None, _, 2) => self.step = Step::Length(FieldKind::Other),
            (None, _, 5) => self.skip(4),
            (None, _, _) => return Err(Ambiguous),
        }
        Ok(())
    }

    fn skip(&mut self, octets: u64) {
        if octets == 0 {
            self.next_field();
        } else {
            self.step = Step::Skip(octets);
        }
    }

    /// Subtracts octets from the rest of the message and of the operation.
    fn spend(&mut self, octets: u64) -> Result<(), Ambiguous> {
        self.check_fits(octets)?;
        self.left = self.left.saturating_sub(octets);
        self.operation_left = self.operation_left.map(|left| left.saturating_sub(octets));
        Ok(())
    }

    /// Checks that this number of octets fits into the message and the operation.
    fn check_fits(&self, octets: u64) -> Result<(), Ambiguous> {
        if octets <= self.operation_left.unwrap_or(self.left).min(self.left) {
            Ok(())
        } else {
            Err(Ambiguous)
        }
    }

    /// Ends a field, and with it the operation or the message if they are complete.
    fn next_field(&mut self) {
        self.operation_left = self.operation_left.filter(|left| *left > 0);
        self.step = if self.left == 0 { Step::Complete } else { Step::Tag };
    }
}

/// The operation with this field number and length.
fn operation_of(number: u64, length: u64) -> Result<ConfigOperation, Ambiguous> {
    match number {
        GET_ALL if length > 0 => Ok(ConfigOperation::Unknown),
        GET_ALL => Ok(ConfigOperation::ByKey),
        IS_MODIFIABLE => Ok(ConfigOperation::IsModifiable),
        number if BY_KEY.contains(&number) => Ok(ConfigOperation::ByKey),
        _ => Err(Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::protobuf::put_octets;

    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        put_octets(&mut octets, number, inner);
        octets
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, message].concat()
    }

    /// The operation of a request, equal for every split. It is unknown before the end of the
    /// message, and when octets follow.
    fn operation_of_request(octets: &[u8]) -> ConfigOperation {
        let in_pieces = |octets: &[u8], piece| {
            let mut question = RequestScanner::new();
            octets.chunks(piece).for_each(|piece| question.scan(piece));
            question.operation()
        };
        let whole = in_pieces(octets, octets.len());
        for piece in 1..octets.len() {
            assert_eq!(in_pieces(octets, piece), whole, "pieces of {piece}");
            assert_eq!(
                in_pieces(&octets[..piece], piece),
                ConfigOperation::Unknown,
                "cut at {piece}"
            );
        }
        assert_eq!(in_pieces(&[octets, &[0]].concat(), 5), ConfigOperation::Unknown);
        whole
    }

    fn of(operation: &[u8]) -> ConfigOperation {
        let others = [field(1, b"session"), field(2, b"user"), field(4, b"client")].concat();
        let numbers = [0x48, 0xac, 2, 0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x55, 1, 2, 3, 4];
        let operation_field = field(3, operation);
        let before =
            operation_of_request(&framed(&[&operation_field[..], &others, &numbers].concat()));
        assert_eq!(
            operation_of_request(&framed(&[&others[..], &numbers, &operation_field].concat())),
            before
        );
        before
    }

    #[test]
    fn each_operation_is_recognised() {
        for number in [1, 2, 3, 4, 6] {
            assert_eq!(of(&field(number, b"")), ConfigOperation::ByKey, "{number}");
            assert_eq!(of(&field(number, &field(1, b"key"))), ConfigOperation::ByKey, "{number}");
        }
        assert_eq!(of(&field(5, b"")), ConfigOperation::ByKey);
        assert_eq!(of(&field(5, &field(1, b"spark."))), ConfigOperation::Unknown);
        assert_eq!(of(&field(7, &field(1, b"key"))), ConfigOperation::IsModifiable);
        assert_eq!(of(&field(7, &field(1, &[b'k'; 300]))), ConfigOperation::IsModifiable);
    }

    #[test]
    fn a_request_that_a_driver_could_parse_differently_is_unknown() {
        let get_all = field(5, &field(1, b"spark."));
        let harmless = field(7, &field(1, b"key"));
        let operation_field = field(3, &harmless);
        let cases = [
            framed(&[]),
            framed(&field(3, b"")),
            framed(&field(3, &[&harmless[..], &get_all].concat())),
            framed(&field(3, &[&get_all[..], &harmless].concat())),
            framed(&[&operation_field[..], &field(3, &get_all)].concat()),
            framed(&[&operation_field[..], &field(3, b"")].concat()),
            framed(&[&field(3, b"")[..], &operation_field].concat()),
            // An undefined operation, a number in its place, and a truncated one.
            framed(&field(3, &field(8, b""))),
            framed(&field(3, &[0x38, 1])),
            framed(&field(3, &[0x3a, 5, 1])),
            framed(&field(3, &[0x3a])),
            // The operation as a number, and as a group.
            framed(&[&operation_field[..], &[0x18, 1]].concat()),
            framed(&[&operation_field[..], &[0x1b, 0x1c]].concat()),
            // Its tag with more than 32 bits, and field 0.
            framed(&[&operation_field[..], &[0x9a, 0x80, 0x80, 0x80, 0x10, 0]].concat()),
            framed(&[&operation_field[..], &[0x02, 0]].concat()),
            // A field beyond the end of the message, and a varint without an end.
            framed(&[&operation_field[..], &[0x0a, 5, 1]].concat()),
            framed(&[&operation_field[..], &[0x0a]].concat()),
            framed(&[&operation_field[..], &[0xff; 11]].concat()),
            [&[1], &framed(&operation_field)[1..]].concat(),
        ];
        for octets in cases {
            assert_eq!(operation_of_request(&octets), ConfigOperation::Unknown, "{octets:02x?}");
        }
    }
}
