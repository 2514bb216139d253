// Pictures: bars as inline SVG. The same numbers stand beside each as a table.
const SVG = 'http://www.w3.org/2000/svg';

const shape = (name, attributes, ...children) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

/** Round up to 1, 2 or 5 times a power of ten. */
const ceiling = value => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 5, 10].map(factor => factor * power).find(most => most >= value);
};

/**
 * Bars over time, oldest on the left. Bars: {label, title, back, front, mark, faint}: `back` is drawn behind `front`,
 * `mark` (0 to 1) is a dot on a scale of its own.
 */
export const bars = (description, data) => {
  const isNarrow = matchMedia('(max-width: 46rem)').matches;
  const width = isNarrow ? 340 : 1120, height = 180, left = 40, bottom = 24, top = 10;
  const most = ceiling(Math.max(1, ...data.map(each => Math.max(each.back ?? 0, each.front ?? 0))));
  const step = (width - left) / Math.max(data.length, 1);
  const y = value => top + (height - top - bottom) * (1 - value / most);
  const size = Math.min(48, step * 0.7);
  const picture = shape('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', class: 'picture', 'aria-label': description });
  for (const value of [0, most / 2, most]) {
    picture.append(shape('line', { class: 'grid', x1: left, x2: width, y1: y(value), y2: y(value) }),
      shape('text', { class: 'scale', x: left - 8, y: y(value) + 4, 'text-anchor': 'end' },
        value >= 1000 ? `${value / 1000}k` : String(value)));
  }
  const every = Math.ceil(data.length / (isNarrow ? 5 : 10));
  data.forEach((each, place) => {
    const middle = left + step * (place + 0.5);
    const group = shape('g', { class: each.faint ? 'faint' : '' }, shape('title', {}, each.title));
    for (const part of ['back', 'front']) {
      const value = each[part];
      if (value > 0) {
        const at = Math.min(y(value), y(0) - 2);
        group.append(shape('rect', { class: part, x: middle - size / 2, y: at, width: size, height: y(0) - at, rx: 2 }));
      }
    }
    if (each.mark !== undefined && each.mark !== null) {
      group.append(shape('circle', { class: 'mark', cx: middle, cy: y(most * each.mark), r: 4 }));
    }
    picture.append(group);
    if (place % every === 0) {
      picture.append(shape('text', { class: 'scale', x: middle, y: height - 6, 'text-anchor': 'middle' }, each.label));
    }
  });
  return picture;
};
