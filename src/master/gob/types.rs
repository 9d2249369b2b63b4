//! What a file says about its types, and how to pass over values of any of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::bytes::{Bytes, Flaw};

/// The types that a file has defined so far.
#[derive(Default)]
pub(super) struct Types(BTreeMap<i64, Shape>);

/// How values of a type are written.
#[derive(Clone)]
pub(super) enum Shape {
    /// A number or a truth: one unsigned number on the wire, whatever it means.
    Number,
    /// A real and an imaginary part.
    Complex,
    /// A length and bytes: text, bytes, and what encodes itself.
    Piece,
    /// Any type, named with each value.
    Any,
    /// A count and so many elements of this type.
    List(i64),
    /// A count and so many pairs of these types.
    Map(i64, i64),
    /// Fields.
    Struct(Rc<[Field]>),
}

/// A field of a struct.
pub(super) struct Field {
    /// As it is declared.
    pub name: String,
    /// The id of its type.
    pub kind: i64,
}

impl Types {
    /// Takes in the definition of the type with the id `-negated`.
    pub fn define(&mut self, negated: i64, bytes: &mut Bytes) -> Result<(), Flaw> {
        let id = negated.checked_neg().filter(|&id| id >= FIRST_ID);
        let id = id.ok_or_else(|| Flaw::wrong("a type has an impossible id"))?;
        let mut shape = None;
        bytes.fields(|at, bytes| {
            shape = Some(match at {
                ARRAY | SLICE => {
                    let [element, _] = ids(bytes)?;
                    Shape::List(element)
                }
                STRUCT => Shape::Struct(members(bytes)?),
                MAP => {
                    let [key, element] = ids(bytes)?;
                    Shape::Map(key, element)
                }
                GOB_ENCODER..=TEXT_MARSHALER => {
                    let [_, _] = ids(bytes)?;
                    Shape::Piece
                }
                _ => return Err(Flaw::wrong("a definition is of no known sort")),
            });
            Ok(())
        })?;
        let shape = shape.ok_or_else(|| Flaw::wrong("a definition is empty"))?;
        if self.0.len() >= MAX_TYPES {
            return Err(Flaw::wrong(format!("there are more than {MAX_TYPES} types")));
        }
        match self.0.insert(id, shape) {
            None => Ok(()),
            Some(_) => Err(Flaw::wrong("a type is defined twice")),
        }
    }

    /// How values of that type are written.
    pub fn shape(&self, id: i64) -> Result<Shape, Flaw> {
        Ok(match id {
            BOOL | INT | UINT | FLOAT => Shape::Number,
            BYTES | STRING => Shape::Piece,
            COMPLEX => Shape::Complex,
            INTERFACE => Shape::Any,
            _ => self.0.get(&id).ok_or_else(|| Flaw::wrong("a type is used that is not defined"))?.clone(),
        })
    }

    /// The fields of a struct, or nothing if it is none.
    pub fn fields(&self, id: i64) -> Result<Option<Rc<[Field]>>, Flaw> {
        match self.shape(id)? {
            Shape::Struct(fields) => Ok(Some(fields)),
            _ => Ok(None),
        }
    }

    /// Passes over a value, at most `depth` values within each other.
    pub fn skip(&mut self, id: i64, bytes: &mut Bytes, depth: usize) -> Result<(), Flaw> {
        let depth = depth.checked_sub(1).ok_or_else(|| Flaw::wrong(format!("it is deeper than {DEEPEST} levels")))?;
        match self.shape(id)? {
            Shape::Number => bytes.uint().map(drop),
            Shape::Complex => bytes.uint().and_then(|_| bytes.uint()).map(drop),
            Shape::Piece => bytes.piece().map(drop),
            Shape::Any => self.skip_any(bytes, depth),
            Shape::List(element) => {
                let count = bytes.count()?;
                (0..count).try_for_each(|_| self.skip(element, bytes, depth))
            }
            Shape::Map(key, element) => {
                let count = bytes.count()?;
                (0..count).try_for_each(|_| {
                    self.skip(key, bytes, depth)?;
                    self.skip(element, bytes, depth)
                })
            }
            Shape::Struct(fields) => bytes.fields(|at, bytes| self.skip(field(&fields, at)?.kind, bytes, depth)),
        }
    }

    /// Passes over a value that brings its type along: the type's name, definitions that are new, its id, a length, the
    /// value. Nothing but an empty name is a value that is not there.
    ///
    /// Go's encoder gets the length wrong if there are definitions in the value, so it is not relied on.
    fn skip_any(&mut self, bytes: &mut Bytes, depth: usize) -> Result<(), Flaw> {
        if bytes.piece()?.is_empty() {
            return Ok(());
        }
        let id = loop {
            match bytes.int()? {
                negated @ ..=-1 => self.define(negated, bytes)?,
                id => break id,
            }
            // A definition ends its message, unless this value is within another such value. In either case a length
            // comes before what is next.
            if bytes.left() > 0 {
                bytes.uint()?;
            } else if !bytes.next_message()? {
                return Err(Flaw::Cut);
            }
        };
        bytes.uint()?;
        if !matches!(self.shape(id)?, Shape::Struct(_)) && bytes.uint()? != 0 {
            return Err(Flaw::wrong("a value does not begin where it should"));
        }
        self.skip(id, bytes, depth)
    }
}

/// The field at a place.
pub(super) fn field(fields: &[Field], at: usize) -> Result<&Field, Flaw> {
    fields.get(at).ok_or_else(|| Flaw::wrong("a struct has more fields than are defined"))
}

/// What follows the common part of all definitions but a struct's: up to two numbers.
fn ids(bytes: &mut Bytes) -> Result<[i64; 2], Flaw> {
    let mut ids = [0; 2];
    bytes.fields(|at, bytes| match at {
        0 => common(bytes),
        1 | 2 => bytes.int().map(|id| ids[at - 1] = id),
        _ => Err(Flaw::wrong("a definition has too many parts")),
    })?;
    Ok(ids)
}

/// The fields that a struct's definition lists.
fn members(bytes: &mut Bytes) -> Result<Rc<[Field]>, Flaw> {
    let mut members = Vec::new();
    bytes.fields(|at, bytes| match at {
        0 => common(bytes),
        1 => {
            let count = bytes.count()?;
            if count > MAX_FIELDS {
                return Err(Flaw::wrong(format!("a struct has more than {MAX_FIELDS} fields")));
            }
            members = (0..count).map(|_| member(bytes)).collect::<Result<_, _>>()?;
            Ok(())
        }
        _ => Err(Flaw::wrong("a definition has too many parts")),
    })?;
    Ok(members.into())
}

fn member(bytes: &mut Bytes) -> Result<Field, Flaw> {
    let mut field = Field { name: String::new(), kind: 0 };
    bytes.fields(|at, bytes| match at {
        0 => bytes.text().map(|name| field.name = name),
        1 => bytes.int().map(|kind| field.kind = kind),
        _ => Err(Flaw::wrong("a field's definition has too many parts")),
    })?;
    Ok(field)
}

/// A definition's own name and id, which say nothing new.
fn common(bytes: &mut Bytes) -> Result<(), Flaw> {
    bytes.fields(|at, bytes| match at {
        0 => bytes.piece().map(drop),
        1 => bytes.int().map(drop),
        _ => Err(Flaw::wrong("a definition has too many parts")),
    })
}

/// The ids of the types that need no definition.
pub(super) const BOOL: i64 = 1;
pub(super) const INT: i64 = 2;
pub(super) const UINT: i64 = 3;
const FLOAT: i64 = 4;
const BYTES: i64 = 5;
pub(super) const STRING: i64 = 6;
const COMPLEX: i64 = 7;
const INTERFACE: i64 = 8;

/// The lowest id of a type that is defined: those below are gob's own.
const FIRST_ID: i64 = 64;

/// The sorts of definitions, by their places in gob's own struct.
const ARRAY: usize = 0;
const SLICE: usize = 1;
pub(super) const STRUCT: usize = 2;
pub(super) const MAP: usize = 3;
const GOB_ENCODER: usize = 4;
const TEXT_MARSHALER: usize = 6;

/// Values within each other: more than any program's state has, and few enough for any stack.
pub(super) const DEEPEST: usize = 64;

/// Types of a file; the original's has five.
const MAX_TYPES: usize = 256;

/// Fields of a struct; the original's has 25.
const MAX_FIELDS: usize = 256;
