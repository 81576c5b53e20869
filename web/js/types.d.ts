// The types of the module "entity-sync": those of index.js, and the map of a program's
// entities, which JavaScript has no words for.

export * from "./index.js";

/**
 * The type of each entity's rows. It is empty until a program declares what it has:
 *
 *     declare module "entity-sync" {
 *       interface Entities {
 *         items: { id: string; name: string };
 *       }
 *     }
 *
 * From then on the entity's name says what its rows are, wherever a key is watched.
 */
export interface Entities {}

/**
 * The type of an entity's rows: the one that a call names (`subscribe<Item>`), or else
 * the one that Entities has, or else any.
 */
export type RowOf<Entity extends string, Row = never> = [Row] extends [never]
  ? Entity extends keyof Entities ? Entities[Entity] : any
  : Named<Row>;

// Row, which is never guessed from how the rows are used: that is to fit the entity.
type Named<Row> = [Row][Row extends unknown ? 0 : never];
