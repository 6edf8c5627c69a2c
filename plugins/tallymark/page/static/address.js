// The address of the page holds every filter.

const address = new URLSearchParams(location.search);

export const chosen = (name) => address.get(name) ?? "";

export const forget = (name) => address.delete(name);

// The address with some filters changed; "" takes one away.
export function here(changes, part) {
  const query = new URLSearchParams(address);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") query.delete(name);
    else query.set(name, value);
  }
  return `?${query}${part ? `#${part}` : ""}`;
}
