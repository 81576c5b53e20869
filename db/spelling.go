package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// PostgreSQL takes many texts for the same id: 1.50 and 1.5 of numeric, "ab" and "ab   " of
// char(5), a time in any zone. A key is one text, and changes are announced under one text of
// the id alone, its spelling. A client that asks for another text would get a row that never
// changes. So only the spelling has a row. entity_sync_announce in outbox/outbox.sql writes
// it, and has the same cases as spellings.

// spellings is SQL for the spelling of a value, %s, by its type. Equal ids of these types have
// the same spelling. For all other types the spelling is what PostgreSQL writes for the value.
var spellings = map[uint32]string{
	pgtype.BoolOID:     "(%s)::text", // true, as in JSON, rather than t
	pgtype.BPCharOID:   "(%s)::text", // without the blanks at the end
	pgtype.NumericOID:  "pg_catalog.trim_scale(%s)::text",
	pgtype.Float4OID:   "((%s) operator(pg_catalog.+) '0')::text", // -0 is 0
	pgtype.Float8OID:   "((%s) operator(pg_catalog.+) '0')::text",
	pgtype.IntervalOID: "pg_catalog.justify_interval(%s)::text", // a day is 24 hours
	pgtype.CIDROID:     "pg_catalog.format('%%s', (%s)::inet)",  // the type that = compares
	// The names of these depend on the search path.
	24: byNumber, 2202: byNumber, 2203: byNumber, 2204: byNumber, 2205: byNumber, 2206: byNumber,
	3734: byNumber, 3769: byNumber, 4089: byNumber, 4096: byNumber, 4191: byNumber,
}

const byNumber = "(%s)::oid::text"

// exact is the types, besides enums, of which equal ids have one spelling.
var exact = map[uint32]bool{
	pgtype.ByteaOID: true, pgtype.QCharOID: true, pgtype.NameOID: true, pgtype.Int2OID: true, pgtype.Int4OID: true,
	pgtype.Int8OID: true, pgtype.TextOID: true, pgtype.VarcharOID: true, pgtype.OIDOID: true, pgtype.XIDOID: true,
	pgtype.CIDOID: true, pgtype.TIDOID: true, 5069: true /* xid8 */, pgtype.DateOID: true, pgtype.TimeOID: true,
	pgtype.TimetzOID: true, pgtype.TimestampOID: true, pgtype.TimestamptzOID: true, pgtype.UUIDOID: true,
	pgtype.InetOID: true, pgtype.MacaddrOID: true, 774: true /* macaddr8 */, pgtype.BitOID: true,
	pgtype.VarbitOID: true, 790: true /* money */, 3220: true /* pg_lsn */, 3614: true /* tsvector */, 3615: true, /* tsquery */
	pgtype.Int4rangeOID: true, pgtype.Int8rangeOID: true, pgtype.DaterangeOID: true, pgtype.TsrangeOID: true, pgtype.TstzrangeOID: true,
	pgtype.Int4multirangeOID: true, pgtype.Int8multirangeOID: true, pgtype.DatemultirangeOID: true, pgtype.TsmultirangeOID: true, pgtype.TstzmultirangeOID: true,
}

// idKind is what PostgreSQL's catalog says of the type of a statement's $1.
type idKind struct {
	array bool
	name  string // of the type, or of the array's elements, for a cast
	base  uint32 // the OID of that type, or of the type that a domain is made of
	exact bool   // equal ids have one spelling
}

// kindSQL takes the OID of a type.
const kindSQL = `
	with recursive id as (
		select t.typcategory = 'A' as is_array, case when t.typcategory <> 'A' then t.oid when t.typelem <> 0 then t.typelem else b.typelem end as type
		from pg_type t left join pg_type b on b.oid = t.typbasetype where t.oid = $1),
	base (oid, typtype, typbasetype) as (
		select t.oid, t.typtype, t.typbasetype from pg_type t, id where t.oid = id.type
		union all select t.oid, t.typtype, t.typbasetype from base b join pg_type t on t.oid = b.typbasetype where b.typtype = 'd')
	select is_array, format_type(type, -1), oid, typtype = 'e' from id, base where typtype <> 'd'`

func kindOf(ctx context.Context, conn *pgx.Conn, t idType) (k idKind, err error) {
	err = conn.QueryRow(ctx, kindSQL, uint32(t)).Scan(&k.array, &k.name, &k.base, &k.exact)
	_, spelled := spellings[k.base]
	k.exact = k.exact || spelled || exact[k.base]
	return k, err
}

// id returns SQL for the one id that a statement's $1 is, or that its array has.
func (k idKind) id() string {
	if k.array {
		return fmt.Sprintf("($1::%s[])[1]", k.name)
	}
	return "$1::" + k.name
}

// spelling returns SQL for the spelling of a value of the type.
func (k idKind) spelling(value string) string {
	if sql, ok := spellings[k.base]; ok {
		return fmt.Sprintf(sql, value)
	}
	return fmt.Sprintf("pg_catalog.format('%%s', %s)", value)
}

// spelled returns a statement for the spelling of the id in $1. It reads the id by the
// session's settings and writes it by those of the trigger in outbox/outbox.sql. The id is a
// column beside the settings, so that it is written after they are made.
func (k idKind) spelled() string {
	return fmt.Sprintf(`select %s from (select %s as id,
	pg_catalog.set_config('datestyle', 'ISO', true), pg_catalog.set_config('timezone', 'UTC', true),
	pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('bytea_output', 'hex', true),
	pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('lc_monetary', 'C', true)) as taken`,
		k.spelling("taken.id"), k.id())
}
