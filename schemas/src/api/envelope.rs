//! The Integration Envelope in the served document, made from the table that the validator walks.

use crate::record::{
    date,
    shape::{ENVELOPE, Field, PROJECT_ID, PROJECT_IDS, SCHEMA_VERSION, Shape, TYPES},
};
use utoipa::{
    Number, PartialSchema, ToSchema,
    openapi::{
        RefOr, Type,
        schema::{
            AdditionalProperties, AllOfBuilder, ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema,
            SchemaFormat,
        },
    },
};

/// One record as clients send it. A documentation type: records are read by [`crate::record::parse`].
#[derive(Debug)]
pub struct Envelope(());

impl ToSchema for Envelope {
    fn name() -> std::borrow::Cow<'static, str> {
        "Envelope".into()
    }
}

impl PartialSchema for Envelope {
    fn schema() -> RefOr<Schema> {
        let about = "One record. Lengths count Unicode code points; strings may be empty. Unknown fields, duplicate \
                     fields and an explicit null are errors at every level except inside `data`.";
        let one_project = OneOfBuilder::new().item(needs(PROJECT_ID)).item(needs(PROJECT_IDS));
        let fields = object(ENVELOPE).description(Some(about));
        AllOfBuilder::new().item(fields).item(one_project).into()
    }
}

fn needs(name: &str) -> Object {
    ObjectBuilder::new().required(name).build()
}

fn object(fields: &[Field]) -> ObjectBuilder {
    let closed = ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    fields.iter().fold(closed, |object, field| {
        let object = object.property(field.name, described(field));
        if field.required { object.required(field.name) } else { object }
    })
}

fn described(field: &Field) -> Schema {
    match schema(&field.shape) {
        Schema::Object(mut object) => {
            object.description = Some(field.about.to_owned());
            Schema::Object(object)
        }
        Schema::Array(mut array) => {
            array.description = Some(field.about.to_owned());
            Schema::Array(array)
        }
        other => other,
    }
}

fn schema(shape: &Shape) -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let limited = |max: usize| text().max_length(Some(max));
    let format = |name: &str| Some(SchemaFormat::Custom(name.to_owned()));
    match *shape {
        Shape::Type => text().pattern(Some(any_letter_case())).examples(TYPES.iter().copied()).into(),
        Shape::Version => text().enum_values(Some([SCHEMA_VERSION])).into(),
        Shape::EventAt => {
            text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).pattern(Some(date::PATTERN)).into()
        }
        Shape::Text(max) => limited(max).into(),
        Shape::Email(max) => limited(max).format(format("idn-email")).into(),
        Shape::Uri(max) => limited(max).format(format("uri")).into(),
        Shape::OneOf(names) => text().enum_values(Some(names.iter().copied())).into(),
        Shape::Size => {
            let (least, most) = (Number::Int(0), Number::UInt(i64::MAX.unsigned_abs() as usize));
            let integer = ObjectBuilder::new().schema_type(Type::Integer);
            integer.format(format("int64")).minimum(Some(least)).maximum(Some(most)).into()
        }
        Shape::Ratio => {
            let number = ObjectBuilder::new().schema_type(Type::Number);
            number.minimum(Some(Number::Int(0))).maximum(Some(Number::Int(1))).into()
        }
        Shape::Bool => ObjectBuilder::new().schema_type(Type::Boolean).into(),
        Shape::TextMap => {
            let any_text = AdditionalProperties::RefOr(RefOr::T(Schema::from(text())));
            let map = ObjectBuilder::new().schema_type(Type::Object).min_properties(Some(1));
            map.additional_properties(Some(any_text)).into()
        }
        Shape::Data => ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
            .into(),
        Shape::Object(fields) => object(fields).into(),
        Shape::Texts { min, max, chars } => {
            let least = (min > 0).then_some(min);
            ArrayBuilder::new().items(limited(chars)).min_items(least).max_items(max).into()
        }
        Shape::Objects { max, fields } => ArrayBuilder::new().items(object(fields)).max_items(max).into(),
    }
}

/// A pattern that matches the names of `_type` in any letter case.
fn any_letter_case() -> String {
    let letter = |c: char| match c {
        '_' => "_".to_owned(),
        c => format!("[{}{c}]", c.to_ascii_uppercase()),
    };
    let names: Vec<String> = TYPES.iter().map(|name| name.chars().map(letter).collect()).collect();
    format!("^({})$", names.join("|"))
}
