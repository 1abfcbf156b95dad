// Documents for people, that the help view lists: {href, title, text}, in the language of the page.

export const documents = () => [];
