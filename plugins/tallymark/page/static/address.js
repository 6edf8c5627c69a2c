// All filters are in the address of the page, so that a view can be shared by its link.

const address = new URLSearchParams(location.search);

export const chosen = (name) => address.get(name) ?? "";

export const forget = (name) => address.delete(name);

// Returns the address with some filters changed; "" removes a filter.
export function here(changes, part) {
  const query = new URLSearchParams(address);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") query.delete(name);
    else query.set(name, value);
  }
  return `?${query}${part ? `#${part}` : ""}`;
}
