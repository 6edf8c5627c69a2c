-- $missing is JSON: as a struct it takes 2 ms.
set variable missing = from_json(
    $missing, '{"words": ["varchar"], "shortest": "bigint", "longest": "bigint", "begin_with_digit": "boolean"}'
)
